//! What each transport costs over loopback: bulk, echo alone and beside a flood, memory of an idle path.
//!
//! `cargo run --release -p rexec-tunnel --example loopback`; CPU is that of the whole process, so of both ends.
#![expect(clippy::print_stdout, reason = "the figures are its output")]
#![expect(clippy::unwrap_used, reason = "a measurement that fails is none")]

#[path = "../tests/pair/mod.rs"]
mod pair;

use std::time::{Duration, Instant};

use bytes::Bytes;
use pair::Ends;
use rexec_tunnel::{Path, RecvStream, SendStream};

const BULK: usize = 1 << 30;
const CHUNK: usize = 64 * 1024;
const ECHOES: usize = 20_000;
const IDLE: usize = 500;

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    for round in 0..2 {
        println!("round {round}");
        measure("quic", pair::quic().await).await;
        measure("tcp", pair::tcp().await).await;
    }
    idle().await;
}

async fn measure(name: &str, ends: Ends) {
    let (wall, cpu) = bulk(&ends, BULK).await;
    let megabytes = BULK as f64 / 1e6;
    println!(
        "  {name:4} bulk {:6.0} MB/s, {:.2} ms CPU per MB (both ends)",
        megabytes / wall.as_secs_f64(),
        cpu.as_secs_f64() * 1e3 / megabytes
    );
    println!("  {name:4} echo alone         {}", echo(&ends).await);
    let flood = tokio::spawn(flood(ends.listener.clone(), ends.dialler.clone()));
    tokio::time::sleep(Duration::from_millis(200)).await;
    println!("  {name:4} echo beside a flood {}", echo(&ends).await);
    flood.abort();
}

async fn stream(from: &Path, to: &Path) -> ((SendStream, RecvStream), (SendStream, RecvStream)) {
    let mut near = from.open_bi().await.unwrap();
    near.0.write_all(b".").await.unwrap();
    let mut far = to.accept_bi().await.unwrap();
    far.1.read_chunk(1).await.unwrap();
    (near, far)
}

async fn bulk(ends: &Ends, len: usize) -> (Duration, Duration) {
    let ((mut send, _recv), (_send, mut recv)) = stream(&ends.listener, &ends.dialler).await;
    let (begun, cpu) = (Instant::now(), cpu_time());
    let writer = tokio::spawn(async move {
        let chunk = Bytes::from(vec![7; CHUNK]);
        for _ in 0..len / CHUNK {
            send.write_chunk(chunk.clone()).await.unwrap();
        }
        send.finish().unwrap();
        send.stopped().await.unwrap();
    });
    drain(&mut recv).await;
    writer.await.unwrap();
    (begun.elapsed(), cpu_time() - cpu)
}

async fn drain(recv: &mut RecvStream) {
    let mut chunks: [Bytes; 44] = std::array::from_fn(|_| Bytes::new());
    while recv.read_chunks(&mut chunks).await.is_ok_and(|filled| filled.is_some()) {
        tokio::task::yield_now().await;
    }
}

async fn flood(from: Path, to: Path) {
    let ((mut send, _recv), (_send, mut recv)) = stream(&from, &to).await;
    let writer = async {
        let chunk = Bytes::from(vec![7; CHUNK]);
        while send.write_chunk(chunk.clone()).await.is_ok() {
            tokio::task::yield_now().await;
        }
    };
    tokio::join!(writer, drain(&mut recv));
}

async fn echo(ends: &Ends) -> String {
    let ((mut send, mut recv), (mut far_send, mut far_recv)) = stream(&ends.listener, &ends.dialler).await;
    let far = tokio::spawn(async move {
        while let Ok(Some(bytes)) = far_recv.read_chunk(1024).await {
            far_send.write_chunk(bytes).await.unwrap();
        }
    });
    let mut times = Vec::with_capacity(ECHOES);
    for _ in 0..ECHOES {
        let begun = Instant::now();
        send.write_chunk(Bytes::from_static(b"k")).await.unwrap();
        recv.read_chunk(1024).await.unwrap();
        times.push(begun.elapsed());
    }
    drop(send);
    far.await.unwrap();
    times.sort();
    let at = |share: f64| times[(times.len() as f64 * share) as usize].as_secs_f64() * 1e3;
    format!("p50 {:.3} ms, p99 {:.3} ms", at(0.5), at(0.99))
}

async fn idle() {
    let before = resident();
    let mut paths = Vec::new();
    for _ in 0..IDLE {
        let ends = pair::tcp().await;
        drop(stream(&ends.dialler, &ends.listener).await);
        paths.push(ends);
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    let each = (resident() - before) / (2 * IDLE);
    println!("idle tcp: {} KiB resident per end, TLS included", each / 1024);
}

/// User and system time of the process; the kernel counts in hundredths of a second.
fn cpu_time() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    let ticks: u64 = [11, 12].iter().map(|field| fields[*field].parse::<u64>().unwrap()).sum();
    Duration::from_millis(ticks * 10)
}

fn resident() -> usize {
    let pages = std::fs::read_to_string("/proc/self/statm").unwrap();
    pages.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
}
