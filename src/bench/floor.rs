//! The floor: an append-only log whose writers are answered when a shared fdatasync has returned. Nothing that makes
//! a step durable on its own disk can be faster.

use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::BenchError;

/// About what the journal keeps of a step with an input and an output of 500 bytes, uncompressed and without its
/// input, which a log of results alone would do without.
const RECORD: usize = 600;

/// A record that its writer has made, and who waits for it.
type Waiting = (Vec<u8>, oneshot::Sender<()>);

/// Returns how many writes a second become durable, with so many writers that each wait for their own.
///
/// # Errors
/// When the file cannot be written.
#[expect(clippy::disallowed_methods, reason = "real time and a file of its own are what is measured")]
pub async fn floor(path: &Path, writers: u32, time: Duration) -> Result<f64, BenchError> {
    let failed = |error| BenchError::Io { path: path.to_owned(), error };
    let file = File::options().append(true).create_new(true).open(path).map_err(failed)?;
    let (queue, jobs) = channel::<Waiting>();
    let log = std::thread::spawn(move || append(file, &jobs));
    let (stop, written) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let begun = Instant::now();
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..writers {
        tasks.spawn(write(queue.clone(), Arc::clone(&stop), Arc::clone(&written)));
    }
    drop(queue);
    tokio::time::sleep(time).await;
    let (count, elapsed) = (written.load(Ordering::Relaxed), begun.elapsed());
    stop.store(true, Ordering::Relaxed);
    tasks.join_all().await;
    let ended = tokio::task::spawn_blocking(move || log.join()).await;
    match ended {
        Ok(Ok(result)) => result.map_err(failed)?,
        Ok(Err(_)) | Err(_) => return Err(failed(std::io::Error::other("the log's thread has gone"))),
    }
    Ok(count as f64 / elapsed.as_secs_f64())
}

/// Writes one record after the other until it is told to stop, or the log has failed.
async fn write(queue: Sender<Waiting>, stop: Arc<AtomicBool>, written: Arc<AtomicU64>) {
    while !stop.load(Ordering::Relaxed) {
        let (done, durable) = oneshot::channel();
        if queue.send((vec![b'x'; RECORD], done)).is_err() || durable.await.is_err() {
            return;
        }
        written.fetch_add(1, Ordering::Relaxed);
    }
}

/// Takes what has come together, writes and syncs it, and answers.
fn append(mut file: File, jobs: &Receiver<Waiting>) -> std::io::Result<()> {
    let mut bytes = Vec::new();
    while let Ok(first) = jobs.recv() {
        let group: Vec<Waiting> = std::iter::once(first).chain(jobs.try_iter()).collect();
        bytes.clear();
        group.iter().for_each(|(record, _)| bytes.extend_from_slice(record));
        file.write_all(&bytes)?;
        file.sync_data()?;
        for (_, done) in group {
            // Whoever has stopped does not listen.
            let _ = done.send(());
        }
    }
    Ok(())
}
