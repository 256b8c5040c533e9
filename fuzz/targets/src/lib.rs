//! What the fuzz targets do with their bytes: every decoder of something that another party sends, and what such a party can make the machines of `shared` do.
//!
//! Each target is a function that returns or panics. `fuzz/fuzz_targets/` gives it a fuzzer's bytes (`make fuzz`); `tests/corpus.rs` gives it the corpus, in
//! every ordinary test run.
//!
//! Decoders of the agent, the broker and control are compiled here from their own sources, by themselves: the crates whole would cost a fuzzing build the
//! minutes that it has.

mod frames;
mod messages;
mod mux;
mod permissions;
mod pki;
mod resume;
mod viewer;
mod words;

/// Parts of the agent's session host.
#[path = "../../../agent/src/host"]
#[allow(dead_code, reason = "a decoder is not all there is in a module")]
mod host {
    pub(crate) mod screen;
    #[path = "../../../fuzz/targets/src/screen.rs"]
    pub(crate) mod target;
    pub(crate) mod title;
    #[path = "../../../fuzz/targets/src/title.rs"]
    pub(crate) mod words;
}

/// Parts of the agent's uplink.
#[path = "../../../agent/src/uplink"]
#[allow(dead_code, reason = "a decoder is not all there is in a module")]
mod uplink {
    pub(crate) mod network;
    #[allow(unreachable_pub, reason = "public in the agent")]
    pub(crate) mod proxy;
    #[path = "../../../fuzz/targets/src/uplink.rs"]
    pub(crate) mod target;
}

/// Parts of the broker.
#[path = "../../../broker/src/viewer/first_frame"]
#[allow(dead_code, reason = "a decoder is not all there is in a module")]
mod broker {
    pub(crate) mod parse;
    #[path = "../../prefix.rs"]
    pub(crate) mod prefix;
    #[path = "../../../../fuzz/targets/src/broker.rs"]
    pub(crate) mod target;
}

/// What a target does.
pub type Target = fn(&[u8]);

/// Every target by its name: that of its binary and of its corpus.
pub const TARGETS: &[(&str, Target)] = &[
    ("first_frame", broker::target::target),
    ("frames", frames::target),
    ("messages", messages::target),
    ("mux", mux::target),
    ("netlink", uplink::target::netlink),
    ("permissions", permissions::target),
    ("pki", pki::target),
    ("proxy", uplink::target::proxy),
    ("resume", resume::target),
    ("screen", host::target::target),
    ("viewer", viewer::target),
    ("words", words::target),
];

/// Runs a target; one that is not there is a mistake of the caller's.
pub fn run(name: &str, bytes: &[u8]) {
    let target = TARGETS.iter().find(|(known, _)| *known == name).map(|(_, target)| target);
    target.unwrap_or_else(|| panic!("there is no target called {name}"))(bytes);
}

/// Orders and their arguments, read off the front of an input; what is not there is zero.
struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn byte(&mut self) -> u8 {
        self.take(1).first().copied().unwrap_or_default()
    }

    fn short(&mut self) -> usize {
        usize::from(self.byte()) << 8 | usize::from(self.byte())
    }

    fn take(&mut self, len: usize) -> &'a [u8] {
        let (front, rest) = self.0.split_at(len.min(self.0.len()));
        self.0 = rest;
        front
    }
}
