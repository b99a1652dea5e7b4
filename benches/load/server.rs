//! A server under measurement: a process of its own on a core of its own.

use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::Failure;
use super::http::{Connection, get};

/// The core that servers run on; the load generator has another.
const CORE: &str = "1";
/// The unit of `/proc/<pid>/stat`.
const TICK: Duration = Duration::from_millis(10);
/// A server that does not answer by then is broken.
const PATIENCE: Duration = Duration::from_secs(20);

pub struct Server {
    child: Child,
    pub port: u16,
    /// From the spawn to the first answer with 200.
    pub started_in: Duration,
}

/// A port that is free now.
pub fn free_port() -> std::io::Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

impl Server {
    /// Starts a command and waits until `probe` is answered with 200.
    pub async fn start(command: &[&str], port: u16, probe: &str) -> Result<Server, Failure> {
        let began = Instant::now();
        let mut server = Server {
            child: Command::new("taskset")
                .args(["-c", CORE])
                .args(command)
                .env("NODE_ENV", "production")
                .env("RUST_LOG", "warn")
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .spawn()?,
            port,
            started_in: Duration::ZERO,
        };
        loop {
            if let Ok(mut connection) = Connection::open(port).await
                && let Ok((200, _)) = connection.ask(&get(probe, None)).await
            {
                server.started_in = began.elapsed();
                return Ok(server);
            }
            if let Some(status) = server.child.try_wait()? {
                return Err(format!("{} ended with {status}", command[0]).into());
            }
            if began.elapsed() > PATIENCE {
                return Err(format!("{} does not answer", command[0]).into());
            }
            tokio::time::sleep(Duration::from_micros(500)).await;
        }
    }

    /// What the process has used so far, in all its threads, by itself and in the kernel.
    pub fn cpu(&self) -> Result<Duration, Failure> {
        cpu_of(&self.child.id().to_string())
    }

    /// Ends it as its owner would.
    pub fn stop(mut self) -> Result<(), Failure> {
        Command::new("kill").arg(self.child.id().to_string()).status()?;
        self.child.wait()?;
        Ok(())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Gone already where it was stopped.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// `utime` and `stime` of a process, or of `self`.
pub fn cpu_of(process: &str) -> Result<Duration, Failure> {
    let text = std::fs::read_to_string(format!("/proc/{process}/stat"))?;
    // The name in brackets may hold spaces; `utime` is the twelfth word after it.
    let (_, after) = text.rsplit_once(')').ok_or("an unreadable stat")?;
    let ticks: Vec<u32> = after.split_whitespace().skip(11).take(2).filter_map(|w| w.parse().ok()).collect();
    match ticks.as_slice() {
        [user, system] => Ok(TICK * (user + system)),
        _ => Err("an unreadable stat".into()),
    }
}
