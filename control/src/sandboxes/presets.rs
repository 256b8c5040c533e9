//! Presets: scripts that set a sandbox up before its agent is let in, once. Those that come with Rexec, and those of the operator.

use std::path::Path;

/// Largest script, bytes: it travels as one argument.
const SCRIPT_MAX: usize = 64 * 1024;
/// Presets of an operator.
const PRESETS_MAX: usize = 32;
/// Longest id.
const ID_MAX: usize = 32;
const COMMON: &str = include_str!("presets/common.sh");
/// What runs a script: one at a time, through the sandbox's proxy if it has one.
pub(super) const AROUND: &str = include_str!("presets/around.sh");
/// The variable [`AROUND`] finds the script in.
pub(super) const SCRIPT_ENV: &str = "REXEC_PRESET";
const BUILT_IN: [(&str, &str, &str); 5] = [
    ("node", "Node", include_str!("presets/node.sh")),
    ("python", "Python", include_str!("presets/python.sh")),
    ("go", "Go", include_str!("presets/go.sh")),
    ("rust", "Rust", include_str!("presets/rust.sh")),
    ("devops", "DevOps", include_str!("presets/devops.sh")),
];

/// The preset that is none.
pub const BARE: &str = "bare";

/// One.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Preset {
    /// Its id.
    pub id: String,
    /// What is shown.
    pub name: String,
    /// The script, for a POSIX shell.
    pub script: String,
}

/// An operator's directory of presets cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum BadPresets {
    /// It cannot be read.
    #[error("REXEC_SANDBOX_PRESETS: {path}: {source}")]
    Read {
        /// What cannot be read.
        path: String,
        /// Why.
        source: std::io::Error,
    },
    /// A file is no preset.
    #[error("REXEC_SANDBOX_PRESETS: {path}: {why}")]
    Preset {
        /// Which.
        path: String,
        /// Why not.
        why: &'static str,
    },
}

/// Those that come with Rexec.
pub fn built_in() -> Vec<Preset> {
    let preset = |(id, name, script): (&str, &str, &str)| Preset {
        id: id.to_owned(),
        name: name.to_owned(),
        script: format!("{COMMON}{script}"),
    };
    BUILT_IN.into_iter().map(preset).collect()
}

/// Those that come with Rexec and, in front, the scripts `*.sh` of a directory; one of the same id takes its place.
///
/// # Errors
/// When the directory or a script cannot be used.
pub fn with_those_in(directory: &Path) -> Result<Vec<Preset>, BadPresets> {
    let unreadable = |path: &Path| {
        let path = path.display().to_string();
        move |source| BadPresets::Read { path, source }
    };
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(directory).map_err(unreadable(directory))? {
        let path = entry.map_err(unreadable(directory))?.path();
        if path.extension().is_some_and(|extension| extension == "sh") {
            paths.push(path);
        }
    }
    paths.sort();
    let mut presets = Vec::new();
    for path in paths {
        let refused = |why| BadPresets::Preset { path: path.display().to_string(), why };
        if presets.len() == PRESETS_MAX {
            return Err(refused("there are too many: 32 at most"));
        }
        let id = path.file_stem().and_then(|stem| stem.to_str()).filter(|id| is_id(id));
        let id = id.ok_or_else(|| {
            refused("its name is lower-case letters, digits and -, 32 at most, and not bare")
        })?;
        let script = std::fs::read_to_string(&path).map_err(unreadable(&path))?;
        if script.len() > SCRIPT_MAX {
            return Err(refused("a script has 64 KiB at most"));
        }
        presets.push(Preset { id: id.to_owned(), name: id.to_owned(), script });
    }
    let rest = built_in().into_iter().filter(|built_in| presets.iter().all(|own| own.id != built_in.id));
    let rest: Vec<_> = rest.collect();
    presets.extend(rest);
    Ok(presets)
}

fn is_id(id: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    (1..=ID_MAX).contains(&id.len()) && id != BARE && id.bytes().all(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_operators_scripts_come_first_and_take_the_place_of_ours() {
        let dir = tempfile::tempdir().expect("a directory");
        std::fs::write(dir.path().join("python.sh"), "echo ours\n").expect("written");
        std::fs::write(dir.path().join("data.sh"), "echo data\n").expect("written");
        std::fs::write(dir.path().join("README"), "not one").expect("written");
        let presets = with_those_in(dir.path()).expect("good");
        let ids: Vec<_> = presets.iter().map(|preset| preset.id.as_str()).collect();
        assert_eq!(ids, ["data", "python", "node", "go", "rust", "devops"]);
        assert_eq!(presets[1].script, "echo ours\n");
        std::fs::write(dir.path().join("Bad Name.sh"), "").expect("written");
        assert!(with_those_in(dir.path()).is_err_and(|error| error.to_string().contains("Bad Name.sh")));
        assert!(
            with_those_in(Path::new("/nonexistent"))
                .is_err_and(|error| error.to_string().contains("/nonexistent"))
        );
    }

    #[test]
    fn ours_are_sound_shell() {
        for preset in built_in().into_iter().map(|preset| preset.script).chain([AROUND.to_owned()]) {
            let checked =
                std::process::Command::new("sh").args(["-n", "-c", &preset]).status().expect("a shell");
            assert!(checked.success(), "{preset}");
        }
    }
}
