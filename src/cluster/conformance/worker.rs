//! A worker that lives in this process and can die like one: it has a thread and an async runtime of its own, and to
//! kill it is to drop everything in it where it stands.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::thread::JoinHandle;

use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::sync::oneshot;

use crate::cluster::worker::{Doing, Onlooker, Serving, serve};
use crate::time::Timestamp;

/// How many times the worker's other tasks get their turn before it counts as having seen to what woke them.
const TURNS: usize = 64;

/// What is known of a worker's life from outside.
#[derive(Default)]
pub(super) struct Tally {
    /// Messages that were sent and have not come.
    under_way: AtomicI64,
    /// Handlers that are waited for.
    performing: AtomicI64,
    /// Questions that have no answer.
    asking: AtomicI64,
    /// How many times anything happened.
    events: AtomicU64,
    /// Whether messages of a worker before may come, or come again, which were not counted here.
    doubt: AtomicBool,
    /// The alarms of runs. They outlive the worker.
    alarms: Arc<Mutex<BTreeSet<(Timestamp, String)>>>,
}

/// What a tally shows at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Count {
    pub(super) under_way: i64,
    pub(super) performing: i64,
    pub(super) asking: i64,
    pub(super) events: u64,
    pub(super) doubt: bool,
}

impl Tally {
    /// Begins to count; `again` says that another worker lived before.
    pub(super) fn over(alarms: &Arc<Mutex<BTreeSet<(Timestamp, String)>>>, again: bool) -> Arc<Self> {
        Arc::new(Self { alarms: Arc::clone(alarms), doubt: AtomicBool::new(again), ..Self::default() })
    }

    pub(super) fn count(&self) -> Count {
        let read = |number: &AtomicI64| number.load(Ordering::SeqCst);
        Count {
            under_way: read(&self.under_way),
            performing: read(&self.performing),
            asking: read(&self.asking),
            events: self.events.load(Ordering::SeqCst),
            doubt: self.doubt.load(Ordering::SeqCst),
        }
    }

    /// Takes what is under way for nothing: messages that were sent twice, or that came twice.
    pub(super) fn rebase(&self) {
        self.doubt.store(false, Ordering::SeqCst);
        self.under_way.store(0, Ordering::SeqCst);
    }
}

impl Onlooker for Tally {
    fn alarm(&self, run: &str, at: Timestamp) {
        self.alarms.lock().insert((at, run.to_owned()));
    }

    fn note(&self, what: Doing) {
        let (number, by) = match what {
            Doing::Sends => (&self.under_way, 1),
            Doing::Receives => (&self.under_way, -1),
            Doing::Performs => (&self.performing, 1),
            Doing::Performed => (&self.performing, -1),
            Doing::Asks => (&self.asking, 1),
            Doing::Answered => (&self.asking, -1),
        };
        let before = number.fetch_add(by, Ordering::SeqCst);
        if before + by < 0 {
            // Something came twice, so what the numbers say next may be wrong as well.
            self.doubt.store(true, Ordering::SeqCst);
        }
        self.events.fetch_add(1, Ordering::SeqCst);
    }
}

/// A living worker.
pub(super) struct Worker {
    thread: Option<JoinHandle<()>>,
    kill: Option<oneshot::Sender<()>>,
    inside: Handle,
}

impl Worker {
    /// Starts a worker and returns when the cluster knows it.
    pub(super) fn start(address: SocketAddr, serving: Serving) -> Result<Self, String> {
        let (kill, killed) = oneshot::channel();
        let (tell, told) = std::sync::mpsc::channel::<Result<Handle, String>>();
        let live = move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            let ready = tell.clone();
            let inside = runtime.handle().clone();
            runtime.block_on(async move {
                let serves = serve(address, serving, |_| drop(ready.send(Ok(inside))), std::future::pending());
                tokio::select! {
                    served = serves => {
                        let why = served.err().map_or_else(|| "it ended".to_owned(), |error| error.to_string());
                        // Nobody listens any more if it was ready before.
                        let _ = tell.send(Err(why));
                    }
                    _ = killed => {}
                }
            });
            runtime.shutdown_background();
        };
        let thread = std::thread::Builder::new().name("worker".to_owned()).spawn(live).map_err(|e| e.to_string())?;
        let inside = told.recv().map_err(|_| "the worker is gone".to_owned())??;
        Ok(Self { thread: Some(thread), kill: Some(kill), inside })
    }

    /// Lets every task that was woken have its turn.
    pub(super) async fn settle(&self) {
        let turns = async {
            for _ in 0..TURNS {
                tokio::task::yield_now().await;
            }
        };
        // A worker that dies meanwhile has settled too.
        let _ = self.inside.spawn(turns).await;
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        drop(self.kill.take());
        if let Some(thread) = self.thread.take() {
            // A worker that panicked is as dead as one that was killed.
            let _ = thread.join();
        }
    }
}
