//! Sets the wall clock of a process forward, as it stands after hours of sleep, while timers have stood still.
//!
//! The programs under test are linked statically, so no library can be slipped under them, and no namespace has a wall clock of its own. But every
//! process reads its clock through code that the kernel maps into it (vdso(7)): here that code is replaced, in a stopped process, by
//! one that asks the kernel and adds the difference when it is asked for the wall clock. (Chaos Mesh does the same.)

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::time::Duration;

use anyhow::{Context, Result};
use nix::sys::signal::Signal;

use crate::process::signal;
use crate::wait;

const SYMBOL: &[u8] = b"__vdso_clock_gettime\0";
const STOPS: Duration = Duration::from_secs(5);
/// Section type of dynamic symbols (elf(5)), and the size of one of them.
const SHT_DYNSYM: u32 = 11;
const SYMBOL_BYTES: usize = 24;

/// Whether it can be done on this processor; it takes root besides.
pub const CAN_SET: bool = cfg!(all(target_os = "linux", target_arch = "x86_64"));

/// Sets the wall clock of processes forward that somebody has stopped.
///
/// # Errors
/// When a process cannot be changed.
pub fn set_forward(stopped: &[u32], by: Duration) -> Result<()> {
    stopped.iter().try_for_each(|pid| patch(*pid, by).with_context(|| format!("the clock of process {pid}")))
}

/// As [`set_forward`], for a process that runs: it is stopped for a moment.
///
/// # Errors
/// As [`set_forward`].
pub fn set_running_forward(pid: u32, by: Duration) -> Result<()> {
    signal(pid, Signal::SIGSTOP)?;
    let done = set_forward(&[pid], by);
    signal(pid, Signal::SIGCONT)?;
    done
}

fn patch(pid: u32, by: Duration) -> Result<()> {
    let (start, end) = vdso(pid)?;
    let memory = File::options().read(true).write(true).open(format!("/proc/{pid}/mem"))?;
    let mut image = vec![0; usize::try_from(end - start)?];
    memory.read_exact_at(&mut image, start)?;
    let place = start + symbol(&image).context("no clock in the kernel's code")?;
    let code = code(by);
    let code_end = place + code.len() as u64;
    wait::until("threads that stand outside of the clock's code", STOPS, || {
        counters(pid)?.iter().all(|counter| !(place..code_end).contains(counter)).then_some(())
    })?;
    memory.write_all_at(&code, place)?;
    Ok(())
}

/// `clock_gettime(edi, rsi)`: the system call 228, and for clock 0 the seconds plus ours.
fn code(by: Duration) -> Vec<u8> {
    let mut code = vec![
        0xb8, 0xe4, 0, 0, 0, // mov eax, 228
        0x0f, 0x05, // syscall
        0x85, 0xff, // test edi, edi
        0x75, 0x0d, // jnz to the end
        0x48, 0xb9, // movabs rcx, …
    ];
    code.extend(by.as_secs().to_le_bytes());
    code.extend([
        0x48, 0x01, 0x0e, // add [rsi], rcx
        0xc3, // ret
    ]);
    code
}

/// Where the kernel's code lies.
fn vdso(pid: u32) -> Result<(u64, u64)> {
    let maps = std::fs::read_to_string(format!("/proc/{pid}/maps"))?;
    let line = maps.lines().find(|line| line.ends_with("[vdso]")).context("no vdso")?;
    let (start, end) =
        line.split_whitespace().next().and_then(|range| range.split_once('-')).context(line.to_owned())?;
    Ok((u64::from_str_radix(start, 16)?, u64::from_str_radix(end, 16)?))
}

/// Instruction pointers of all threads (proc(5), `syscall`); none while one of them runs.
fn counters(pid: u32) -> Option<Vec<u64>> {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).ok()?;
    tasks
        .map(|task| {
            let text = std::fs::read_to_string(task.ok()?.path().join("syscall")).ok()?;
            u64::from_str_radix(text.split_whitespace().last()?.strip_prefix("0x")?, 16).ok()
        })
        .collect()
}

/// Offset of the clock in an ELF image of 64 bits, little-endian.
fn symbol(image: &[u8]) -> Option<u64> {
    let sections = usize::try_from(number(image, 40, 8)?).ok()?;
    let size = usize::try_from(number(image, 58, 2)?).ok()?;
    let count = usize::try_from(number(image, 60, 2)?).ok()?;
    let section = |index: usize| sections + index * size;
    let place = |at: usize| usize::try_from(number(image, at + 24, 8)?).ok();
    let table = (0..count).map(section).find(|at| number(image, at + 4, 4) == Some(SHT_DYNSYM.into()))?;
    let names = place(section(usize::try_from(number(image, table + 40, 4)?).ok()?))?;
    let (first, bytes) = (place(table)?, usize::try_from(number(image, table + 32, 8)?).ok()?);
    (first..first + bytes).step_by(SYMBOL_BYTES).find_map(|at| {
        let name = names + usize::try_from(number(image, at, 4)?).ok()?;
        image.get(name..)?.starts_with(SYMBOL).then(|| number(image, at + 8, 8))?
    })
}

fn number(image: &[u8], at: usize, bytes: usize) -> Option<u64> {
    image.get(at..at + bytes)?.iter().rev().try_fold(0u64, |sum, byte| Some(sum << 8 | u64::from(*byte)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clock_is_found_in_the_kernels_code_and_nothing_in_what_is_no_elf() -> Result<()> {
        if !CAN_SET {
            return Ok(());
        }
        let own = std::process::id();
        let (start, end) = vdso(own)?;
        let mut image = vec![0; usize::try_from(end - start)?];
        File::open("/proc/self/mem")?.read_exact_at(&mut image, start)?;
        let place = symbol(&image).context("no clock")?;
        assert!(place > 0 && place < end - start, "{place:#x}");
        assert_eq!(symbol(&[0; 200]), None);
        assert_eq!(symbol(&[]), None);
        Ok(())
    }
}
