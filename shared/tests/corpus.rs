//! The fuzz corpus in an ordinary run: each input, and each with a byte changed here and there.
#![allow(clippy::expect_used, reason = "a test")]

#[path = "../../fuzz/targets.rs"]
mod targets;

/// Inputs of one target: the files of its corpus.
fn corpus(target: &str) -> Vec<Vec<u8>> {
    let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/../fuzz/corpus/");
    let entries = std::fs::read_dir(format!("{directory}{target}")).expect("the corpus is there");
    let mut files: Vec<_> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    files.sort();
    assert!(!files.is_empty(), "the corpus of {target} is empty");
    files.into_iter().map(|file| std::fs::read(file).expect("a readable file")).collect()
}

fn replay(name: &str, target: fn(&[u8])) {
    for input in corpus(name) {
        target(&input);
        for at in 0..input.len() {
            for change in [1, 0x80, 0xff] {
                let mut altered = input.clone();
                altered[at] ^= change;
                target(&altered);
            }
            target(&input[..at]);
        }
    }
}

#[test]
fn ma_03_the_corpus_of_frames_is_decoded_or_refused() {
    replay("frames", targets::frames);
}

#[test]
fn bu_04_the_corpus_of_permissions_is_refused() {
    replay("permissions", targets::permissions);
}

#[test]
fn the_corpus_of_resumes_loses_and_doubles_nothing() {
    replay("resume", targets::resume);
}
