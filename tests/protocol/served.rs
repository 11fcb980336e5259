//! The built server as a child process: found, started on a free port, stopped as an operator would stop it.
//! It knows nothing of what is asked of the server.

use std::ffi::OsString;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

use crate::binary;

/// Far longer than a start or a stop takes on a busy machine: reaching it means that the server hangs.
const PATIENCE: Duration = Duration::from_secs(60);

/// A port that is free.
const ANY_PORT: &str = "127.0.0.1:0";

/// A running `etagdb serve` with an empty store of its own.
pub(crate) struct Served {
    child: Child,
    /// The lines the server prints; closed when it has ended.
    lines: Receiver<String>,
    ready: String,
    url: String,
    /// Taken along by a restart.
    data: Option<tempfile::TempDir>,
    /// Where it was told to listen.
    listen: String,
    /// What the shell ran before the server.
    command: String,
    arguments: Vec<String>,
}

impl Served {
    /// Starts the server and waits for its ready line.
    pub(crate) fn start() -> Self {
        Self::start_with(&[])
    }

    /// Starts the server with further arguments and waits for its ready line.
    pub(crate) fn start_with(arguments: &[&str]) -> Self {
        Self::start_under(":", arguments)
    }

    /// Starts the server in a shell that has run `command`, such as `ulimit -n 700`, and waits for its ready line.
    pub(crate) fn start_under(command: &str, arguments: &[&str]) -> Self {
        Self::start_as(ANY_PORT, command, arguments)
    }

    /// Starts the server on an address, and waits for its ready line. After a kill it is back at the same address.
    pub(crate) fn start_at(listen: &str, arguments: &[&str]) -> Self {
        Self::start_as(listen, ":", arguments)
    }

    fn start_as(listen: &str, command: &str, arguments: &[&str]) -> Self {
        let data = tempfile::tempdir().expect("a temporary directory");
        let arguments = arguments.iter().map(|argument| (*argument).to_owned()).collect();
        Self::launch(data, listen.to_owned(), command.to_owned(), arguments)
    }

    /// Kills the server (SIGKILL), and starts another over the same store.
    pub(crate) fn kill_and_restart(self) -> Self {
        self.kill_and_restart_after(|_| {})
    }

    /// The same, with something done to the store in between.
    pub(crate) fn kill_and_restart_after(mut self, meddle: impl FnOnce(&Path)) -> Self {
        self.child.kill().expect("a process that runs");
        self.child.wait().expect("the server's exit status");
        let data = self.data.take().expect("the store's directory");
        meddle(&data.path().join("store"));
        let [listen, command] = [&mut self.listen, &mut self.command].map(std::mem::take);
        Self::launch(data, listen, command, std::mem::take(&mut self.arguments))
    }

    /// Starts a server by a command line, such as `etagdb serve --strict`, in a directory, and waits for its ready line.
    /// `etagdb` is the built binary.
    pub(crate) fn by_command(line: &str, directory: &Path) -> Self {
        let mut shell = Command::new("sh");
        // The shell becomes the server, so that a signal to the child is one to the server.
        shell.args(["-c", &format!("exec {line}")]).current_dir(directory).env("PATH", search_path());
        Self::ready(shell)
    }

    fn launch(data: tempfile::TempDir, listen: String, command: String, arguments: Vec<String>) -> Self {
        let mut shell = Command::new("sh");
        shell
            .args(["-c", &format!("{command}; exec \"$0\" \"$@\"")])
            .arg(binary::find())
            .args(["serve", "--listen", &listen, "--data"])
            .arg(data.path().join("store"))
            .args(&arguments);
        let mut served = Self::ready(shell);
        (served.data, served.listen, served.command, served.arguments) = (Some(data), listen, command, arguments);
        served
    }

    /// Starts what the shell is to become, and waits until it accepts connections.
    fn ready(mut shell: Command) -> Self {
        let mut child = shell
            .env("ETAGDB_LOG", "warn")
            .env_remove("ETAGDB_KEY")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("cannot run {shell:?}: {error}"));
        let (sender, lines) = channel();
        let stdout = BufReader::new(child.stdout.take().expect("standard output is piped"));
        std::thread::spawn(move || stdout.lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
        let none = String::new;
        let mut served = Self {
            child,
            lines,
            ready: none(),
            url: none(),
            data: None,
            listen: none(),
            command: none(),
            arguments: Vec::new(),
        };
        let ready = served.lines.recv_timeout(PATIENCE).expect("the server did not print its ready line");
        let rest = ready.strip_prefix("etagdb ready on ").unwrap_or_else(|| panic!("not a ready line: {ready}"));
        served.url = rest.split_whitespace().next().expect("the ready line names the URL").to_owned();
        served.ready = ready;
        served
    }

    /// The server's address, such as `http://127.0.0.1:40123`.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// How much memory the server holds, in bytes, as the system sees it.
    pub(crate) fn resident_bytes(&self) -> u64 {
        self.status("VmRSS:") * 1024
    }

    /// How many threads the server has.
    pub(crate) fn threads(&self) -> u64 {
        self.status("Threads:")
    }

    fn status(&self, name: &str) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).expect("the server's status");
        let line = status.lines().find_map(|line| line.strip_prefix(name)).expect("a line of that name");
        line.trim().trim_end_matches(" kB").parse().expect("a number")
    }

    /// The file that the ready line asks clients to trust.
    pub(crate) fn authority(&self) -> PathBuf {
        let (_, path) = self.ready.split_once("trust: ").unwrap_or_else(|| panic!("nothing to trust: {}", self.ready));
        path.trim_end_matches(')').into()
    }

    /// The address in that.
    pub(crate) fn address(&self) -> std::net::SocketAddr {
        let (_, address) = self.url.split_once("://").expect("a URL");
        address.parse().expect("an address with a port")
    }

    /// Asks the server to end (SIGTERM) and waits until it has.
    pub(crate) fn stop(mut self) -> ExitStatus {
        // The shell's own `kill`: a minimal system has no program of that name.
        let signalled = Command::new("sh").args(["-c", "kill -TERM \"$0\""]).arg(self.child.id().to_string()).status();
        assert!(signalled.expect("a shell").success(), "the server had ended before it was asked to");
        loop {
            match self.lines.recv_timeout(PATIENCE) {
                Ok(_) => {}
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => panic!("the server did not end on SIGTERM"),
            }
        }
        self.child.wait().expect("the server's exit status")
    }
}

/// A `PATH` on which `etagdb` is the server to test.
pub(crate) fn search_path() -> OsString {
    let built = std::path::absolute(binary::find()).expect("a working directory");
    assert!(built.ends_with("etagdb"), "{} is to be called etagdb", built.display());
    let others = std::env::var_os("PATH").unwrap_or_default();
    let directories = built.parent().map(Path::to_owned).into_iter().chain(std::env::split_paths(&others));
    std::env::join_paths(directories).expect("directories that can be in a PATH")
}

impl Drop for Served {
    /// After a failed test the server must not stay behind. After `stop` there is nothing left to kill.
    fn drop(&mut self) {
        if let Ok(None) = self.child.try_wait() {
            self.child.kill().ok();
            self.child.wait().ok();
        }
    }
}
