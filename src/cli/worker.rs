//! `worker`: serves the runs of a cluster.

use std::sync::Arc;

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use super::app::App;
use super::args::{Settings, Worker};
use super::control::{folder_of, world_of};
use super::exec::faults;
use super::exit_code::ExitCode;
use super::problem::Problem;
use super::workflow::{self, Wanted};
use crate::cluster::worker::{ServeError, Serving, serve};
use crate::engine::EngineOptions;
use crate::handlers::World;
use crate::time::SystemClock;

pub(super) async fn worker(app: &App, args: &Worker) -> Result<ExitCode, Problem> {
    for path in workflow::files(&[], "validate")? {
        workflow::ready(app, &path, &Settings::default(), Wanted::default())?;
    }
    // What handlers keep lies where it does beside a store.
    let folder = folder_of(&app.global.store);
    std::fs::create_dir_all(&folder).map_err(|error| {
        Problem::new(ExitCode::Store, format!("{} cannot be made: {error}", folder.display()))
            .help("Name another place with --store.")
    })?;
    let handlers = app
        .registry
        .build(&World { shared: true, ..world_of(&app.global.store) })
        .map_err(|problems| Problem::new(ExitCode::Store, "the handlers cannot be made ready").details(problems))?;
    let options = EngineOptions {
        limits: app.limits.clone(),
        faults: faults(app, args.faults.as_deref())?,
        ..EngineOptions::default()
    };
    let serving = Serving {
        handlers,
        clock: Arc::new(SystemClock),
        options,
        admin: args.register.trim_end_matches('/').to_owned(),
        advertised: args.advertise.clone(),
        onlooker: None,
    };
    let (end, code) = (CancellationToken::new(), Arc::new(parking_lot::Mutex::new(ExitCode::Interrupted)));
    listen(&end, &code)?;
    let ready = |address| app.screen.say(&format!("worker ready at {address}, known to {}", args.register));
    let over = end.clone();
    serve(args.listen, serving, ready, async move { over.cancelled().await }).await?;
    app.screen.say("worker stopped; what it was doing goes on where another worker is");
    let code = *code.lock();
    Ok(code)
}

/// Listens for Ctrl-C and SIGTERM.
fn listen(end: &CancellationToken, code: &Arc<parking_lot::Mutex<ExitCode>>) -> Result<(), Problem> {
    let failed = |error: std::io::Error| Problem::bug(format!("signals cannot be listened for: {error}"));
    let mut ctrl_c = signal(SignalKind::interrupt()).map_err(failed)?;
    let mut term = signal(SignalKind::terminate()).map_err(failed)?;
    let (end, code) = (end.clone(), Arc::clone(code));
    tokio::spawn(async move {
        *code.lock() = tokio::select! {
            _ = ctrl_c.recv() => ExitCode::Interrupted,
            _ = term.recv() => ExitCode::Terminated,
        };
        end.cancel();
    });
    Ok(())
}

impl From<ServeError> for Problem {
    fn from(error: ServeError) -> Self {
        let message = error.to_string();
        match error {
            ServeError::Listen { .. } => Self::conflict(message).help("Name another address with --listen."),
            ServeError::Unreachable { .. } => {
                Self::new(ExitCode::Store, message).help("Name the cluster's administration interface with --register.")
            }
            ServeError::Refused { .. } => Self::conflict(message).help(
                "A new release listens at an address of its own, so that runs under way end where they began; see \
                 docs/cluster.md.",
            ),
        }
    }
}
