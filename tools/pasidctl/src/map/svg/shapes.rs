// SPDX-License-Identifier: MIT OR Apache-2.0
//! Sizes, colours and single shapes of the picture.

use svg::node::element::path::Data;
use svg::node::element::{Path, Rectangle, Text};

use crate::map::picture::{Column, Look};

/// Where the strips begin, and where they end.
pub(super) const LEFT: f32 = 112.0;
pub(super) const WIDTH: f32 = 1024.0;
pub(super) const RIGHT: f32 = LEFT + WIDTH;
pub(super) const MARGIN: f32 = 24.0;
/// How high the strips are, in the overview and in a closer look.
pub(super) const STRIP: f32 = 44.0;
pub(super) const CLOSE: f32 = 16.0;
/// How high is what shows attachments, under a strip.
pub(super) const ATTACHED: f32 = 5.0;
/// A look that is there is seen, however few numbers have it.
pub(super) const LEAST: f32 = 2.0;
/// Live PASIDs, by set. Neither red, nor amber, nor grey, which mean something.
pub(super) const SETS: [&str; 8] = [
    "#1f6fb4", "#2e9e5b", "#8452b5", "#19b5c1", "#8a5a3c", "#e06fb1", "#174a7c", "#9bbf30",
];
pub(super) const FREEING: &str = "#d62728";
pub(super) const QUARANTINED: &str = "#f2b705";
pub(super) const RESERVED: &str = "#8c8c8c";
pub(super) const FREE: &str = "#eef0f2";
pub(super) const BEYOND: &str = "#ffffff";
pub(super) const INK: &str = "#1c1c1c";
pub(super) const PALE: &str = "#85858f";
pub(super) const FAINT: &str = "#6b6b6b";

pub(super) fn colour(look: Look) -> &'static str {
    match look {
        Look::Reserved => RESERVED,
        Look::Live(set) => SETS[set % SETS.len()],
        Look::Freeing => FREEING,
        Look::Quarantined => QUARANTINED,
    }
}

pub(super) fn rectangle(x: f32, y: f32, width: f32, height: f32, fill: &str) -> Rectangle {
    Rectangle::new()
        .set("x", x)
        .set("y", y)
        .set("width", width)
        .set("height", height)
        .set("fill", fill)
}

/// How wide a text is, about: the font is that of whoever looks at the picture.
pub(super) fn wide(content: &str) -> f32 {
    6.4 * content.chars().count() as f32
}

pub(super) fn text(x: f32, y: f32, content: &str, fill: &str) -> Text {
    Text::new(content).set("x", x).set("y", y).set("fill", fill)
}

/// A grey area with lines through it.
pub(super) fn hatch(x: f32, y: f32, width: f32, height: f32) -> Path {
    let mut data = Data::new();
    let mut from = -height;
    while from < width {
        let (left, right) = (from.max(0.0), (from + height).min(width));
        // From the lower left to the upper right.
        data = data
            .move_to((x + left, y + height - (left - from)))
            .line_to((x + right, y + height - (right - from)));
        from += 8.0;
    }
    Path::new()
        .set("d", data)
        .set("stroke", "#c4c4c4")
        .set("stroke-width", 1)
        .set("fill", "none")
}

/// How high `count` of `each` numbers are.
pub(super) fn high(count: u32, each: u32, height: f32) -> f32 {
    let part = f64::from(count.min(each)).ln_1p() / f64::from(each.max(1)).ln_1p();
    // Whole and half pixels look the same everywhere.
    ((part as f32 * height * 2.0).round() / 2.0).max(LEAST)
}

/// How high each look of a column is, from the bottom up: together as high as what is
/// taken, and each in proportion, but for those that would not be seen.
pub(super) fn heights(column: &Column, each: u32, height: f32) -> Vec<(Look, f32)> {
    let taken = column.taken();
    if taken == 0 {
        return Vec::new();
    }
    let together = high(taken, each, height).max(LEAST * column.looks.len() as f32);
    let spare = together.min(height) - LEAST * column.looks.len() as f32;
    let looks = column.looks.iter();
    looks
        .map(|(&look, &count)| {
            let part = count as f32 / taken as f32;
            (look, LEAST + (part * spare * 2.0).round() / 2.0)
        })
        .collect()
}

/// Where something is pinned, and not so close to another that neither is seen.
pub(super) fn pins(columns: &[Column], width: f32) -> Vec<f32> {
    let mut drawn: Vec<f32> = Vec::new();
    for (index, column) in columns.iter().enumerate() {
        let x = LEFT + width * (index as f32 + 0.5);
        if column.pinned > 0 && drawn.last().is_none_or(|last| x - last >= 4.0) {
            drawn.push(x);
        }
    }
    drawn
}
