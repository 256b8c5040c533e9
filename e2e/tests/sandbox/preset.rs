//! Presets: set up once, before the agent is let in, with what is said shown as it is said.

use anyhow::Result;
use rexec_e2e::grounds::can_run;
use rexec_e2e::sandbox::{BUSYBOX, DEBIAN, Ground, NEEDS};
use rexec_e2e::wait;
use serde_json::json;

use crate::{run, shell_in};

/// Waits for a file, so that whoever looks on sees that it runs.
const SLOW: &str = "echo first words; n=0; while [ $n -lt 3 ]; do n=$((n + 1)); sleep 1; echo step $n; done; echo done >>/etc/set-up\n";

#[tokio::test]
async fn a_preset_is_run_once_and_what_it_says_is_seen() -> Result<()> {
    if !can_run(NEEDS) {
        return Ok(());
    }
    let presets = tempfile::tempdir()?;
    std::fs::write(presets.path().join("slow.sh"), SLOW)?;
    std::fs::write(presets.path().join("broken.sh"), "echo no such package >&2; exit 7\n")?;
    let ground = Ground::with_presets(presets.path())?;
    for image in [DEBIAN, BUSYBOX] {
        let id = ground.ask(image, json!({ "preset": "slow" }))?;
        let told = wait::until("its words", rexec_e2e::sandbox::SOON, || {
            let steps = ground.look(id).ok()?["steps"].clone();
            steps
                .as_array()?
                .iter()
                .find(|step| step["step"] == "setting_up" && step["detail"].is_string())
                .cloned()
        })?;
        assert_eq!(told["state"], "now", "{told}");
        ground.until(id, "ready")?;
        ground.tell(id, "restart")?;
        wait::until("it is restarted", rexec_e2e::sandbox::SOON, || {
            (ground.look(id).ok()?["state"] != "ready").then_some(())
        })?;
        ground.until(id, "ready")?;
        let mut viewer = shell_in(&ground, id).await?;
        assert_eq!(
            run(&mut viewer, "cat /etc/set-up; tail -n 1 /var/log/rexec-preset.log").await?,
            "done\nstep 3",
            "{image}"
        );
    }
    let broken = ground.make(BUSYBOX, json!({ "preset": "broken" }))?;
    let problem = ground.look(broken)?["problem"].clone();
    assert_eq!(problem["detail"], "broken was not set up (exit code 7): no such package", "{problem}");
    let mut viewer = shell_in(&ground, broken).await?;
    assert_eq!(run(&mut viewer, "echo usable").await?, "usable");
    Ok(())
}
