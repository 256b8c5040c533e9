//! A cable between an agent and a broker that can be cut: neither is told, as when a path dies far away.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::net::UdpSocket;
use tokio::task::JoinHandle;

/// Carries the datagrams of one agent.
pub(crate) struct Cable {
    /// Where the agent dials.
    pub(crate) address: SocketAddr,
    cut: Arc<AtomicBool>,
    task: JoinHandle<()>,
}

impl Cable {
    pub(crate) async fn to(broker: SocketAddr) -> Self {
        let near = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let far = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        far.connect(broker).await.unwrap();
        let (address, cut) = (near.local_addr().unwrap(), Arc::new(AtomicBool::new(false)));
        let is_cut = cut.clone();
        let task = tokio::spawn(async move {
            let (mut out, mut back, mut agent) = (vec![0; 65_536], vec![0; 65_536], None);
            loop {
                tokio::select! {
                    Ok((n, from)) = near.recv_from(&mut out) => {
                        agent = Some(from);
                        if !is_cut.load(Ordering::Relaxed) {
                            far.send(&out[..n]).await.ok();
                        }
                    }
                    Ok(n) = far.recv(&mut back) => if let Some(agent) = agent.filter(|_| !is_cut.load(Ordering::Relaxed)) {
                        near.send_to(&back[..n], agent).await.ok();
                    },
                }
            }
        });
        Self { address, cut, task }
    }

    pub(crate) fn cut(&self) {
        self.cut.store(true, Ordering::Relaxed);
    }
}

impl Drop for Cable {
    fn drop(&mut self) {
        self.task.abort();
    }
}
