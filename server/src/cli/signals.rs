//! SIGINT and SIGTERM: the first asks for an orderly end, the second forces it.

use std::io;
use std::process;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::runtime::{Builder, Handle, Runtime};
use tokio::sync::oneshot;

/// Runs `first` on the first signal, and ends the process with code 1 on the second.
///
/// # Errors
/// The operating system does not let signals be caught.
pub(super) fn on_signal(runtime: &Handle, first: impl FnOnce(&'static str) + Send + 'static) -> io::Result<()> {
    let _entered = runtime.enter();
    let mut signals = Signals::listen()?;
    runtime.spawn(async move {
        first(signals.next().await);
        let name = signals.next().await;
        eprintln!("etagdb: a second signal ({name}): ending at once");
        process::exit(1);
    });
    Ok(())
}

/// Returns the name of the first signal, once it has come; the second one ends the process.
pub(super) fn first_signal(runtime: &Handle) -> io::Result<oneshot::Receiver<&'static str>> {
    let (sender, receiver) = oneshot::channel();
    on_signal(runtime, |name| {
        // Whoever no longer waits is ending already.
        let _ = sender.send(name);
    })?;
    Ok(receiver)
}

/// Catches the first signal for a command that looks now and then whether to stop. The runtime has to be kept.
pub(super) fn stop_flag() -> Result<(Runtime, Arc<AtomicBool>), String> {
    let failed = |error: io::Error| format!("cannot catch signals: {error}");
    let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().map_err(failed)?;
    let stopped = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&stopped);
    on_signal(runtime.handle(), move |_| flag.store(true, Ordering::Relaxed)).map_err(failed)?;
    Ok((runtime, stopped))
}

#[cfg(unix)]
struct Signals {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
}

#[cfg(unix)]
impl Signals {
    fn listen() -> io::Result<Signals> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Signals { interrupt: signal(SignalKind::interrupt())?, terminate: signal(SignalKind::terminate())? })
    }

    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.interrupt.recv() => "SIGINT",
            _ = self.terminate.recv() => "SIGTERM",
        }
    }
}

#[cfg(windows)]
struct Signals(tokio::signal::windows::CtrlC);

#[cfg(windows)]
impl Signals {
    fn listen() -> io::Result<Signals> {
        tokio::signal::windows::ctrl_c().map(Signals)
    }

    async fn next(&mut self) -> &'static str {
        self.0.recv().await;
        "Ctrl-C"
    }
}
