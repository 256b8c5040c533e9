//! The fuzz corpus in an ordinary run: each input, and each with a byte changed here and there.
#![allow(clippy::expect_used, reason = "a test")]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Places of one input at which it is changed, and at which it is cut.
const CHANGES_MAX: usize = 24;

fn fuzz_directory() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("it is in one")
}

fn entries(directory: PathBuf) -> Vec<PathBuf> {
    let mut paths: Vec<_> = std::fs::read_dir(&directory)
        .unwrap_or_else(|error| panic!("{}: {error}", directory.display()))
        .filter_map(|entry| Some(entry.ok()?.path()))
        .collect();
    paths.sort();
    paths
}

fn replay(target: &str) {
    let files = entries(fuzz_directory().join("corpus").join(target));
    assert!(!files.is_empty(), "the corpus of {target} is empty");
    for file in files {
        let input = std::fs::read(&file).expect("a readable file");
        rexec_fuzz_targets::run(target, &input);
        for at in (0..input.len()).step_by(input.len() / CHANGES_MAX + 1) {
            let mut altered = input.clone();
            altered[at] ^= [1, 0x80, 0xff][at % 3];
            rexec_fuzz_targets::run(target, &altered);
            rexec_fuzz_targets::run(target, &input[..at]);
        }
    }
}

macro_rules! replayed {
    ($($test:ident: $target:literal,)*) => {
        $(#[test] fn $test() { replay($target); })*
        const REPLAYED: &[&str] = &[$($target),*];
    };
}

replayed! {
    ma_03_the_corpus_of_frames_is_decoded_or_refused: "frames",
    ma_03_the_corpus_of_messages_survives_its_encoders_or_is_refused: "messages",
    bu_04_the_corpus_of_permissions_permits_what_is_signed_and_no_more: "permissions",
    br_01_the_corpus_of_first_frames_is_passed_on_as_it_came_or_refused: "first_frame",
    ma_03_the_corpus_of_multiplexed_connections_is_bounded: "mux",
    ma_01_the_corpus_of_certificates_and_requests_names_nobody_else: "pki",
    out_05_the_corpus_of_output_is_painted_as_it_was: "screen",
    out_06_the_corpus_of_texts_is_made_harmless: "words",
    the_corpus_of_proxies_answers_is_taken_or_refused: "proxy",
    the_corpus_of_the_kernels_messages_is_survived: "netlink",
    the_corpus_of_resumes_loses_and_doubles_nothing: "resume",
    the_corpus_of_hosts_is_survived_by_a_viewer: "viewer",
}

#[test]
fn every_target_has_a_binary_a_corpus_and_a_replay() {
    let targets: BTreeSet<String> =
        rexec_fuzz_targets::TARGETS.iter().map(|(name, _)| (*name).to_owned()).collect();
    let replayed = REPLAYED.iter().map(|name| (*name).to_owned()).collect();
    assert_eq!(targets, replayed);
    let stem = |path: PathBuf| path.file_stem().map(|stem| stem.to_string_lossy().into_owned());
    for place in ["corpus", "fuzz_targets"] {
        let there = entries(fuzz_directory().join(place)).into_iter().filter_map(stem).collect();
        assert_eq!(targets, there, "{place}");
    }
    let manifest = std::fs::read_to_string(fuzz_directory().join("Cargo.toml")).expect("a manifest");
    let binaries = manifest
        .lines()
        .filter_map(|line| line.strip_prefix("path = \"fuzz_targets/")?.strip_suffix(".rs\""));
    assert_eq!(targets, binaries.map(str::to_owned).collect());
}

#[test]
fn the_corpus_is_small() {
    for target in entries(fuzz_directory().join("corpus")) {
        let files = entries(target.clone());
        let sizes = files.iter().map(|file| file.metadata().expect("a file").len());
        assert!(files.len() < 200 && sizes.max() <= Some(4 * 1024), "{}", target.display());
    }
}
