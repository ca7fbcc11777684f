// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the pictures must be.

use std::collections::HashMap;

use svg::node::Value;
use svg::parser::Event;

use super::shapes::*;
use super::*;
use crate::map::picture::{Column, Legend, Look};

fn span(first: u32, last: u32) -> Span {
    Span { first, last }
}

fn dense(tables: u32) -> Picture {
    let row = |index: u32| Row {
        name: format!("table {index}"),
        note: "20 bits & <more>".to_owned(),
        last: 0xf_ffff,
        spans: (0..0x2_0000)
            .map(|part| part * 8 + index)
            .map(|first| (span(first, first + 5), Look::Live(first as usize % 3)))
            .collect(),
        attached: vec![span(9, 10), span(70_000, 80_000)],
        pinned: vec![span(5, 900_000)],
        sets: (0..12)
            .map(|set| Legend {
                name: format!("set {set} of tables 1, 2"),
                colour: set,
                counts: [262_144, 0, 1, 2],
            })
            .collect(),
    };
    Picture {
        title: "a < b".to_owned(),
        note: "everything".to_owned(),
        bits: 20,
        rows: (0..tables).map(row).collect(),
    }
}

type Attributes = HashMap<String, Value>;

/// All elements with their attributes, and all texts.
fn parse(drawn: &str) -> (Vec<(String, Attributes)>, Vec<String>) {
    let (mut elements, mut texts) = (Vec::new(), Vec::new());
    let mut open = Vec::new();
    for event in svg::read(drawn).unwrap() {
        use svg::node::element::tag::Type;
        match event {
            Event::Tag(name, kind, attributes) => {
                match kind {
                    Type::Start => open.push(name.to_owned()),
                    Type::End => assert_eq!(open.pop().as_deref(), Some(name)),
                    Type::Empty => {}
                }
                elements.push((name.to_owned(), attributes));
            }
            Event::Text(text) => texts.push(text.to_owned()),
            Event::Error(error) => panic!("{error}"),
            _ => {}
        }
    }
    assert!(open.is_empty());
    (elements, texts)
}

#[test]
fn a_dense_space_is_a_picture_of_kilobytes_that_stays_on_its_sheet() {
    let drawn = draw(&dense(3));
    assert!(drawn.len() < 200_000, "{}", drawn.len());
    let (elements, texts) = parse(&drawn);
    let number = |attributes: &Attributes, name: &str| {
        attributes
            .get(name)
            .map_or(0.0, |value| value.parse::<f32>().unwrap())
    };
    let (_, sheet) = elements.iter().find(|(name, _)| name == "svg").unwrap();
    let (width, height) = (number(sheet, "width"), number(sheet, "height"));
    for (name, attributes) in &elements {
        if name == "text" || name == "rect" {
            let (x, y) = (number(attributes, "x"), number(attributes, "y"));
            let right = x + number(attributes, "width");
            let bottom = y + number(attributes, "height");
            assert!(x >= 0.0 && right <= width, "{name} {attributes:?}");
            assert!(y >= 0.0 && bottom <= height, "{name} {attributes:?}");
        }
    }
    for expected in [
        "a &lt; b",
        "20 bits &amp; &lt;more&gt;",
        "each column is 1,024 numbers",
        "table 2",
        "1,048,575",
        "one by one",
        "and 4 sets more",
    ] {
        let found = texts.iter().any(|text| text.contains(expected));
        assert!(found, "{expected}: {texts:?}");
    }
}

#[test]
fn what_is_there_is_seen() {
    let column = |looks: &[(Look, u32)]| Column {
        looks: looks.iter().copied().collect(),
        ..Column::default()
    };
    assert!(heights(&column(&[]), 1024, STRIP).is_empty());
    let one = heights(&column(&[(Look::Live(0), 1)]), 1024, STRIP);
    assert!(one[0].1 >= LEAST && one[0].1 < STRIP / 4.0);
    let full = heights(
        &column(&[(Look::Live(0), 1023), (Look::Freeing, 1)]),
        1024,
        STRIP,
    );
    assert!(full[1].1 >= LEAST);
    let sum: f32 = full.iter().map(|(_, high)| high).sum();
    assert!((sum - STRIP).abs() <= 0.5, "{sum}");
    assert_eq!(
        heights(&column(&[(Look::Reserved, 1)]), 1, CLOSE),
        [(Look::Reserved, CLOSE)]
    );
    // More is higher.
    assert!(high(2, 1024, STRIP) > high(1, 1024, STRIP));
    assert!(high(1024, 1024, STRIP) > high(512, 1024, STRIP));
}

#[test]
fn equal_columns_are_one_shape() {
    let mut picture = dense(1);
    let many = draw(&picture).len();
    picture.rows[0].spans = vec![(span(0, 0xf_ffff), Look::Live(0))];
    picture.rows[0].pinned.clear();
    assert!(draw(&picture).len() < many / 2);
    let empty = draw(&Picture::default());
    assert!(
        parse(&empty)
            .1
            .iter()
            .any(|text| text.contains("neither tables nor sets"))
    );
}
