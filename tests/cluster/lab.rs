//! A cluster with workers of the real program, in a folder of its own.

use std::net::SocketAddr;

use rustix::process::Signal;

use crate::balancer::balance;
use crate::program::{Place, Running};
use crate::servers::{Servers, free_ports};

/// A cluster, its workers, and the folder that they and the commands run in.
pub struct Lab {
    pub place: Place,
    pub servers: Servers,
    workers: Vec<Worker>,
    advertised: String,
    faults: Option<String>,
}

struct Worker {
    address: SocketAddr,
    process: Option<Running>,
}

impl Lab {
    /// Starts servers and workers; nothing where there can be no servers.
    pub fn start(nodes: usize, workers: usize) -> Option<Self> {
        Self::with(nodes, workers, &[])
    }

    /// Starts servers, and workers that inject faults.
    pub fn with(nodes: usize, workers: usize, faults: &[&str]) -> Option<Self> {
        let mut lab = Self::without_workers(nodes)?;
        lab.faulty(faults);
        lab.employ(workers);
        Some(lab)
    }

    /// Starts servers that know no worker.
    pub fn without_workers(nodes: usize) -> Option<Self> {
        let servers = Servers::start(nodes)?;
        let mut place = Place::new();
        let nodes: Vec<String> = (0..servers.count()).map(|node| servers.ingress(node)).collect();
        place.environment.push(("FLOWRUN_ENGINE", "restate".to_owned()));
        place.environment.push(("FLOWRUN_URL", nodes.join(",")));
        Some(Self { place, servers, workers: Vec::new(), advertised: String::new(), faults: None })
    }

    /// Lets workers that are started from here on inject faults.
    pub fn faulty(&mut self, faults: &[&str]) {
        self.place.faults("worker-faults.yaml", faults);
        self.faults = (!faults.is_empty()).then(|| "worker-faults.yaml".to_owned());
    }

    /// Starts so many workers behind one address.
    pub fn employ(&mut self, workers: usize) {
        let addresses: Vec<SocketAddr> =
            (0..workers).map(|_| SocketAddr::from(([127, 0, 0, 1], free_ports::<1>()[0]))).collect();
        self.advertised = format!("http://{}/", balance(addresses.clone()));
        self.workers = addresses.into_iter().map(|address| Worker { address, process: None }).collect();
        for worker in 0..workers {
            self.start_worker(worker);
        }
    }

    /// Starts a worker that is not running.
    pub fn start_worker(&mut self, worker: usize) {
        let listen = self.workers[worker].address.to_string();
        // Any node that is up will do.
        let admin = self.servers.admin(self.servers.first_up());
        let mut args = vec!["worker", "--listen", &listen, "--advertise", &self.advertised, "--register", &admin];
        if let Some(faults) = &self.faults {
            args.extend(["--faults", faults]);
        }
        let mut process = self.place.start(&args);
        process.wait_for("worker ready");
        self.workers[worker].process = Some(process);
    }

    /// Kills a worker without a warning.
    pub fn kill_worker(&mut self, worker: usize) {
        let process = self.workers[worker].process.take().expect("the worker is running");
        process.signal(Signal::KILL);
        process.end();
    }

    /// Stops a worker in order, and returns its exit code.
    pub fn stop_worker(&mut self, worker: usize) -> Option<i32> {
        let process = self.workers[worker].process.take().expect("the worker is running");
        process.signal(Signal::TERM);
        process.end().code()
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        for process in self.workers.iter_mut().filter_map(|worker| worker.process.take()) {
            process.signal(Signal::KILL);
            process.end();
        }
    }
}
