// SPDX-License-Identifier: MIT OR Apache-2.0
//! The code of the README and of the pages in `docs/`, as tests.

macro_rules! pages {
    ($($name:ident: $path:literal,)*) => {
        $(
            #[doc = include_str!(concat!("../", $path))]
            pub struct $name;
        )*
    };
}

pages! {
    Readme: "README.md",
    WhichSet: "docs/which-set.md",
    AttachAndFaults: "docs/attach-and-faults.md",
    QuarantineAndFlush: "docs/quarantine-and-flush.md",
    Contexts: "docs/contexts.md",
    Migration: "docs/migration.md",
    FromOtherAllocators: "docs/from-other-allocators.md",
}
