// SPDX-License-Identifier: MIT OR Apache-2.0
//! The picture as SVG.
//!
//! A strip is as wide as there are columns for 2^10 numbers, so that each column has equally
//! many numbers, a power of two.

mod shapes;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use svg::Document;
use svg::node::element::path::Data;
use svg::node::element::{Group, Line, Path, Title};

use super::picture::{Column, Look, Picture, Row, Span, grouped};
use shapes::{
    ATTACHED, BEYOND, CLOSE, FAINT, FREE, FREEING, INK, LEFT, MARGIN, PALE, QUARANTINED, RESERVED,
    RIGHT, SETS, STRIP, WIDTH, colour, hatch, heights, high, pins, rectangle, text, wide,
};

/// Columns of the overview.
const COLUMNS: u32 = 1024;
/// How many sets of a row are named.
const SETS_NAMED: usize = 9;

/// Draws it.
pub fn draw(picture: &Picture) -> String {
    let mut sheet = Sheet {
        group: Group::new(),
        y: MARGIN,
    };
    sheet.head(picture);
    let windows = picture.windows();
    sheet.overview(picture, &windows);
    for (&window, letter) in windows.iter().zip('A'..) {
        sheet.closer(picture, window, letter);
    }
    sheet.foot(picture);
    let (width, height) = (RIGHT + MARGIN, sheet.y + MARGIN);
    let background = rectangle(0.0, 0.0, width, height, "#ffffff");
    let document = Document::new()
        .set("viewBox", (0, 0, width, height))
        .set("width", width)
        .set("height", height)
        .set("font-family", "DejaVu Sans, Verdana, Helvetica, sans-serif")
        .set("font-size", 11)
        .add(Title::new(picture.title.as_str()))
        .add(background)
        .add(sheet.group);
    format!("{document}\n")
}

/// What is drawn so far, and how far down that is.
struct Sheet {
    group: Group,
    y: f32,
}

impl Sheet {
    fn add(&mut self, node: impl svg::Node) {
        // The methods of the crate take and give back, and this is a loop's way.
        let group = std::mem::replace(&mut self.group, Group::new());
        self.group = group.add(node);
    }

    fn line_of_text(&mut self, x: f32, content: &str, fill: &str) {
        self.add(text(x, self.y + 11.0, content, fill));
        self.y += 17.0;
    }

    fn head(&mut self, picture: &Picture) {
        let title = text(MARGIN, self.y + 14.0, &picture.title, INK);
        self.add(title.set("font-size", 16).set("font-weight", "bold"));
        self.y += 24.0;
        self.line_of_text(MARGIN, &picture.note, INK);
        self.key();
        self.y += 8.0;
    }

    /// What the colours mean.
    fn key(&mut self) {
        let y = self.y + 2.0;
        let mut x = MARGIN;
        let boxes = [
            ("live, in the colour of its set", SETS[0]),
            ("being freed", FREEING),
            ("in quarantine", QUARANTINED),
            ("reserved", RESERVED),
            ("free", FREE),
        ];
        for (name, fill) in boxes {
            self.add(rectangle(x, y, 11.0, 11.0, fill));
            self.add(text(x + 16.0, y + 10.0, name, INK));
            x += 36.0 + wide(name);
        }
        self.add(rectangle(x, y + 6.0, 11.0, ATTACHED, INK));
        self.add(rectangle(x + 11.0, y + 6.0, 11.0, ATTACHED, PALE));
        let attached = "attached there, at least half and less";
        self.add(text(x + 28.0, y + 10.0, attached, INK));
        x += 48.0 + wide(attached);
        self.pin(x + 4.0, y + 11.0);
        self.add(text(x + 14.0, y + 10.0, "pinned", INK));
        x += 82.0;
        self.add(hatch(x, y, 22.0, 11.0));
        self.add(text(x + 28.0, y + 10.0, "beyond the width", INK));
        self.y += 20.0;
    }

    /// A triangle that points at `x`, above what begins at `y`.
    fn pin(&mut self, x: f32, y: f32) {
        let data = Data::new()
            .move_to((x - 4.0, y - 7.0))
            .horizontal_line_by(8)
            .line_to((x, y - 1.0))
            .close();
        self.add(Path::new().set("d", data).set("fill", INK));
    }

    fn overview(&mut self, picture: &Picture, windows: &[Span]) {
        let all = picture.all();
        let columns = all.count().min(COLUMNS);
        let each = all.count() / columns;
        self.y += 4.0;
        let of = match each {
            1 => "each column is one number".to_owned(),
            _ => format!(
                "each column is {} numbers, and higher the more of them are taken (logarithmic)",
                grouped(each)
            ),
        };
        let heading = format!("Numbers 0 to {}: {of}", grouped(all.last));
        let heading = text(MARGIN, self.y + 11.0, &heading, INK);
        self.add(heading.set("font-weight", "bold"));
        self.y += 22.0;
        self.windows(all, windows);
        for row in &picture.rows {
            self.row_head(row);
            let counted = row.columns(all, columns);
            self.strip(&counted, each, STRIP);
            if each > 1 {
                self.heights(each);
            }
            self.under(&counted);
            self.y += 14.0;
        }
        self.axis(all);
    }

    /// Where the closer looks are.
    fn windows(&mut self, all: Span, windows: &[Span]) {
        let mut free_from = 0.0_f32;
        for (window, letter) in windows.iter().zip('A'..) {
            let scale = WIDTH / all.count() as f32;
            let x = LEFT + window.first as f32 * scale;
            let width = (window.count() as f32 * scale).max(1.0);
            self.add(rectangle(x, self.y + 13.0, width, 4.0, INK));
            // Where windows are close together, their letters stand beside each other.
            let middle = (x + width / 2.0).max(free_from);
            free_from = middle + 10.0;
            let letter = text(middle, self.y + 10.0, &letter.to_string(), INK);
            let letter = letter.set("text-anchor", "middle");
            self.add(letter.set("font-weight", "bold"));
        }
        if !windows.is_empty() {
            self.y += 22.0;
        }
    }

    /// A row's name and its sets.
    fn row_head(&mut self, row: &Row) {
        let y = self.y + 11.0;
        self.add(text(LEFT, y, &row.name, INK).set("font-weight", "bold"));
        let after = LEFT + 12.0 + 1.2 * wide(&row.name);
        self.add(text(after, y, &row.note, FAINT));
        self.y += 18.0;
        let named = match row.sets.len() {
            all if all <= SETS_NAMED => all,
            _ => SETS_NAMED - 1,
        };
        let mut x = LEFT;
        for (index, set) in row.sets.iter().enumerate().take(named + 1) {
            let (content, fill) = match index == named {
                true => (format!("and {} sets more", row.sets.len() - named), FAINT),
                false => (set.to_string(), INK),
            };
            let width = 38.0 + wide(&content);
            if x > LEFT && x + width > RIGHT {
                (x, self.y) = (LEFT, self.y + 15.0);
            }
            if index < named {
                let fill = colour(Look::Live(set.colour));
                self.add(rectangle(x, self.y + 2.0, 9.0, 9.0, fill));
            }
            self.add(text(x + 14.0, self.y + 10.0, &content, fill));
            x += width;
        }
        if !row.sets.is_empty() {
            self.y += 15.0;
        }
        self.y += 8.0;
    }

    /// The columns of a row: what is taken, in its colours, from the bottom up.
    fn strip(&mut self, columns: &[Column], each: u32, height: f32) {
        let width = WIDTH / columns.len().max(1) as f32;
        self.add(rectangle(LEFT, self.y, WIDTH, height, FREE));
        if let Some(beyond) = columns.iter().position(|column| column.beyond) {
            let x = LEFT + width * beyond as f32;
            self.add(rectangle(x, self.y, RIGHT - x, height, BEYOND));
            self.add(hatch(x, self.y, RIGHT - x, height));
        }
        // Of equal columns side by side one shape is made.
        let mut shapes: BTreeMap<Look, Vec<[f32; 4]>> = BTreeMap::new();
        for (index, column) in columns.iter().enumerate() {
            let x = LEFT + width * index as f32;
            let mut bottom = self.y + height;
            for (look, high) in heights(column, each, height) {
                bottom -= high;
                let drawn = shapes.entry(look).or_default();
                match drawn.last_mut() {
                    Some([from, wide, top, tall])
                        if [*top, *tall] == [bottom, high] && *from + *wide == x =>
                    {
                        *wide += width;
                    }
                    _ => drawn.push([x, width, bottom, high]),
                }
            }
        }
        for (look, drawn) in shapes {
            let data = drawn.into_iter().fold(Data::new(), |data, shape| {
                let [x, wide, top, tall] = shape;
                let data = data.move_to((x, top)).horizontal_line_by(wide);
                data.vertical_line_by(tall)
                    .horizontal_line_by(-wide)
                    .close()
            });
            let mut path = Path::new().set("d", data).set("fill", colour(look));
            if each > 1 {
                // A line around it, so that a single column is seen.
                path = path.set("stroke", colour(look)).set("stroke-width", 1);
            }
            self.add(path);
        }
        for x in pins(columns, width) {
            self.pin(x, self.y);
        }
    }

    /// What the height of a column means.
    fn heights(&mut self, each: u32) {
        let mut counts = vec![1];
        if each >= 256 {
            counts.push(32);
        }
        counts.push(each);
        for count in counts {
            let y = self.y + STRIP - high(count, each, STRIP);
            let dash = Line::new().set("x1", LEFT - 5.0).set("x2", LEFT);
            let dash = dash.set("y1", y).set("y2", y).set("stroke", FAINT);
            self.add(dash);
            let label = text(LEFT - 8.0, y + 3.0, &grouped(count), FAINT);
            self.add(label.set("text-anchor", "end").set("font-size", 9));
        }
    }

    /// What is attached, under the strip.
    fn under(&mut self, columns: &[Column]) {
        let width = WIDTH / columns.len().max(1) as f32;
        self.y += STRIP;
        self.attached(columns, width);
    }

    fn attached(&mut self, columns: &[Column], width: f32) {
        let y = self.y + 1.0;
        for (half, fill) in [(true, INK), (false, PALE)] {
            let mut data = Data::new();
            let mut index = 0;
            while index < columns.len() {
                let run = columns.iter().skip(index);
                let alike = |column: &&Column| {
                    let attached = column.attached;
                    attached > 0 && half == (attached >= column.count.div_ceil(2))
                };
                let count = run.take_while(alike).count();
                if count > 0 {
                    data = data
                        .move_to((LEFT + width * index as f32, y))
                        .horizontal_line_by(width * count as f32)
                        .vertical_line_by(ATTACHED)
                        .horizontal_line_by(-width * count as f32)
                        .close();
                }
                index += count + 1;
            }
            self.add(Path::new().set("d", data).set("fill", fill));
        }
        self.y += ATTACHED + 2.0;
    }

    /// The numbers along the bottom.
    fn axis(&mut self, span: Span) {
        let parts = 8.min(span.count());
        for part in 0..=parts {
            let x = LEFT + WIDTH * part as f32 / parts as f32;
            let number =
                span.first + (u64::from(span.count()) * u64::from(part) / u64::from(parts)) as u32;
            let tick = Line::new().set("x1", x).set("x2", x);
            let tick = tick.set("y1", self.y - 2.0).set("y2", self.y + 4.0);
            self.add(tick.set("stroke", FAINT));
            // At the end stands the last number, and not the first that is not there.
            let (number, anchor) = match part == parts {
                true => (span.last, "end"),
                false => (number, "middle"),
            };
            let label = text(x, self.y + 15.0, &grouped(number), FAINT);
            self.add(label.set("text-anchor", anchor));
        }
        self.y += 28.0;
    }

    /// A closer look: the same numbers in every row.
    fn closer(&mut self, picture: &Picture, window: Span, letter: char) {
        self.y += 6.0;
        let (first, last) = (grouped(window.first), grouped(window.last));
        let heading = format!("{letter}: numbers {first} to {last}, one by one");
        let heading = text(MARGIN, self.y + 11.0, &heading, INK);
        self.add(heading.set("font-weight", "bold"));
        self.y += 26.0;
        for row in &picture.rows {
            let name = text(LEFT - 10.0, self.y + 12.0, &row.name, INK);
            self.add(name.set("text-anchor", "end"));
            let columns = row.columns(window, window.count());
            self.strip(&columns, 1, CLOSE);
            self.y += CLOSE;
            self.attached(&columns, WIDTH / columns.len().max(1) as f32);
            self.y += 7.0;
        }
        self.axis(window);
    }

    fn foot(&mut self, picture: &Picture) {
        if picture.rows.is_empty() {
            self.line_of_text(MARGIN, "There are neither tables nor sets.", FAINT);
        }
    }
}
