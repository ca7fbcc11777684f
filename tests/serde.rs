// SPDX-License-Identifier: MIT OR Apache-2.0
//! Serialized forms of the vocabulary. They are an interface: what is written
//! today must be read tomorrow, so the tests spell them out.
#![cfg(feature = "serde")]

mod common;

use common::{alloc, bare, pasid, range, width};
use pasid::{Handle, Pasid, PasidRange, PasidWidth, Policy};
use serde_json::{from_str, to_string};

#[test]
fn a_pasid_is_its_number_and_at_most_20_bits() {
    for number in [0, 1, 0xf_ffff] {
        assert_eq!(to_string(&pasid(number)).unwrap(), number.to_string());
        assert_eq!(
            from_str::<Pasid>(&number.to_string()).unwrap(),
            pasid(number)
        );
    }
    for text in [
        "1048576",
        "4294967295",
        "4294967296",
        "-1",
        "\"1\"",
        "null",
        "1.5",
    ] {
        assert!(from_str::<Pasid>(text).is_err(), "{text}");
    }
}

#[test]
fn a_width_is_its_number_of_bits() {
    for bits in [0, 8, 20] {
        assert_eq!(to_string(&width(bits)).unwrap(), bits.to_string());
        assert_eq!(
            from_str::<PasidWidth>(&bits.to_string()).unwrap(),
            width(bits)
        );
    }
    for text in ["21", "31", "255", "256", "-1"] {
        assert!(from_str::<PasidWidth>(text).is_err(), "{text}");
    }
}

#[test]
fn a_range_is_its_two_ends_and_never_empty() {
    let text = r#"{"first":3,"last":9}"#;
    assert_eq!(to_string(&range(3, 9)).unwrap(), text);
    assert_eq!(from_str::<PasidRange>(text).unwrap(), range(3, 9));
    for text in [
        r#"{"first":9,"last":3}"#,
        r#"{"first":3}"#,
        r#"{"first":3,"last":1048576}"#,
        r#"{"first":3,"last":9,"count":7}"#,
        "[]",
    ] {
        assert!(from_str::<PasidRange>(text).is_err(), "{text}");
    }
}

#[test]
fn a_handle_is_its_raw_word() {
    let space = bare(20);
    let owned = alloc(&space, 7, 7).unwrap();
    let text = to_string(&owned.handle()).unwrap();
    assert_eq!(text, owned.handle().to_raw().to_string());
    assert_eq!(from_str::<Handle>(&text).unwrap(), owned.handle());
    let widest = u64::MAX.to_string();
    assert_eq!(from_str::<Handle>(&widest).unwrap().to_raw(), u64::MAX);
    // A word without a tag is no handle, whoever wrote it.
    for text in ["0", "7", "18446744073709551616", "-1"] {
        assert!(from_str::<Handle>(text).is_err(), "{text}");
    }
}

#[test]
fn a_policy_is_its_name() {
    for (policy, text) in [(Policy::Lowest, "\"lowest\""), (Policy::Next, "\"next\"")] {
        assert_eq!(to_string(&policy).unwrap(), text);
        assert_eq!(from_str::<Policy>(text).unwrap(), policy);
    }
    assert!(from_str::<Policy>("\"Lowest\"").is_err());
    assert!(from_str::<Policy>("\"random\"").is_err());
}
