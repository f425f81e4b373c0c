//! A server process in its own process group with captured output. It ends with its owner.

use std::{
    fmt,
    io::{BufRead, BufReader, Read},
    os::unix::process::CommandExt,
    path::Path,
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Resource, Rlimit, Signal, kill_process_group, prlimit};

/// A running (or ended) process. Dropping it kills its whole group.
pub struct Process {
    name: String,
    group: Pid,
    shared: Arc<Shared>,
}

impl Process {
    /// Starts a command in a new process group and captures its standard output and error.
    ///
    /// # Panics
    /// If the command cannot be started.
    #[track_caller]
    pub fn start(command: Command) -> Self {
        Self::start_owning(command, None)
    }

    /// As [`start`](Self::start). If this program ends without running destructors, the directory `owned` is
    /// removed too.
    ///
    /// # Panics
    /// If the command cannot be started.
    #[track_caller]
    pub fn start_owning(mut command: Command, owned: Option<&Path>) -> Self {
        let name = command.get_program().to_string_lossy().into_owned();
        command.process_group(0).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|error| panic!("cannot start {name}: {error}"));
        let group =
            i32::try_from(child.id()).ok().and_then(Pid::from_raw).expect("a process id is a positive i32");

        let mut watchdog = watchdog(group, owned);
        let shared = Arc::new(Shared::default());
        let readers = [
            child.stdout.take().map(|pipe| shared.clone().capture(pipe)),
            child.stderr.take().map(|pipe| shared.clone().capture(pipe)),
        ];
        let waiter = shared.clone();
        thread::spawn(move || {
            let status = child.wait().expect("only this thread waits for the child");
            // Stop the watchdog before the group id can be reused.
            let _ = watchdog.kill();
            let _ = watchdog.wait();
            // Set the exit status after the last line, so whoever sees it has the whole output.
            for reader in readers.into_iter().flatten() {
                reader.join().expect("a reader of output does not panic");
            }
            waiter.change(|state| state.exit = Some(status));
        });
        Self { name, group, shared }
    }

    /// Returns the first line of output that `matches`, waiting for it if necessary.
    ///
    /// # Panics
    /// If the process ends or `deadline` passes before such a line; shows the output so far.
    #[track_caller]
    pub fn wait_for_line(&self, deadline: Duration, matches: impl Fn(&str) -> bool) -> String {
        let found = self.shared.wait(deadline, |state| {
            let line = state.lines.iter().find(|line| matches(line)).cloned();
            if line.is_some() || state.exit.is_some() { Some(line) } else { None }
        });
        match found {
            Some(Some(line)) => line,
            Some(None) => panic!("{self} ended before it printed the expected line"),
            None => panic!("{self} did not print the expected line within {deadline:?}"),
        }
    }

    /// Waits for the process to end.
    ///
    /// # Panics
    /// If `deadline` passes first; shows the output so far.
    #[track_caller]
    pub fn wait_for_exit(&self, deadline: Duration) -> ExitStatus {
        let exit = self.shared.wait(deadline, |state| state.exit);
        exit.unwrap_or_else(|| panic!("{self} did not end within {deadline:?}"))
    }

    /// Whether the process is still running.
    pub fn is_running(&self) -> bool {
        self.shared.state().exit.is_none()
    }

    /// Kills the process group like `kill -9`, and waits for it to end.
    #[track_caller]
    pub fn kill(&self) {
        self.signal(Signal::KILL);
        self.wait_for_exit(Duration::from_secs(30));
    }

    /// Sends SIGTERM, as a service manager does to stop a process.
    pub fn terminate(&self) {
        self.signal(Signal::TERM);
    }

    /// Sends SIGHUP, as a service manager does to make a process reload its files.
    pub fn hang_up(&self) {
        self.signal(Signal::HUP);
    }

    /// Lets no write of the process go beyond `bytes` of a file, as if the disk were full. A process
    /// that does not ignore SIGXFSZ is killed by such a write.
    ///
    /// # Panics
    /// If the limit cannot be set.
    pub fn limit_files(&self, bytes: u64) {
        let limit = Rlimit { current: Some(bytes), maximum: Some(bytes) };
        prlimit(Some(self.group), Resource::Fsize, limit).expect("a process of the same user can be limited");
    }

    /// Stops all threads of the process until [`resume`](Self::resume).
    pub fn hold(&self) {
        self.signal(Signal::STOP);
    }

    /// Resumes a held process.
    pub fn resume(&self) {
        self.signal(Signal::CONT);
    }

    /// The output so far: standard output and error, interleaved by line.
    pub fn output(&self) -> String {
        self.shared.state().lines.join("\n")
    }

    fn signal(&self, signal: Signal) {
        if self.is_running() {
            // The process may have ended in the meantime.
            let _ = kill_process_group(self.group, signal);
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.signal(Signal::KILL);
        // The data directory may be removed next, so the process must be gone.
        self.shared.wait(Duration::from_secs(30), |state| state.exit);
    }
}

impl fmt::Display for Process {
    /// Shows the program, its process id and all of its output.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (process {})\n--- output ---\n{}\n---", self.name, self.group, self.output())
    }
}

/// Kills a group, and removes a directory, if this process ends without running destructors, as on Ctrl-C.
fn watchdog(group: Pid, owned: Option<&Path>) -> Child {
    let mut command = Command::new("/bin/sh");
    // The processes of the group may still write for a moment.
    let script = "read -r _; kill -9 \"-$0\"; [ -z \"$1\" ] || rm -rf \"$1\" || rm -rf \"$1\"";
    command.args(["-c", script, &group.to_string()]).args(owned).process_group(0);
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().unwrap_or_else(|error| panic!("cannot start /bin/sh: {error}"))
}

/// The state shared between the owner and the threads that watch the process.
#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    lines: Vec<String>,
    exit: Option<ExitStatus>,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state());
        self.changed.notify_all();
    }

    /// Waits until `look` returns a value; `None` if `deadline` passes first.
    fn wait<T>(&self, deadline: Duration, look: impl Fn(&State) -> Option<T>) -> Option<T> {
        let end = Instant::now() + deadline;
        let mut state = self.state();
        loop {
            if let Some(found) = look(&state) {
                return Some(found);
            }
            let left = end.checked_duration_since(Instant::now())?;
            state = self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn capture(self: Arc<Self>, pipe: impl Read + Send + 'static) -> thread::JoinHandle<()> {
        thread::spawn(move || {
            let mut pipe = BufReader::new(pipe);
            let mut line = Vec::new();
            while matches!(pipe.read_until(b'\n', &mut line), Ok(1..)) {
                let text = String::from_utf8_lossy(&line).trim_end().to_owned();
                self.change(|state| state.lines.push(text));
                line.clear();
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt;

    use super::*;

    const SOON: Duration = Duration::from_secs(20);

    fn shell(script: &str) -> Process {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", script]);
        Process::start(command)
    }

    #[test]
    fn waits_for_a_line_of_either_output() {
        let process = shell("echo first; echo ready on 7 >&2; exec sleep 1000");
        assert_eq!(process.wait_for_line(SOON, |line| line.starts_with("ready")), "ready on 7");
        process.wait_for_line(SOON, |line| line == "first");
        assert!(process.is_running());
    }

    #[test]
    #[should_panic(expected = "no such thing")]
    fn an_early_end_is_told_with_the_output() {
        shell("echo no such thing; exit 3").wait_for_line(SOON, |line| line == "ready");
    }

    /// Runs this test again in a child process, which starts a process and aborts.
    #[test]
    fn a_process_ends_with_its_owner() {
        const ABORTS: &str = "FLASHSALE_TEST_ABORTS";
        let name = "process::tests::a_process_ends_with_its_owner";
        if std::env::var_os(ABORTS).is_some() {
            let started = shell("echo started; exec sleep 1000");
            started.wait_for_line(SOON, |line| line == "started");
            println!("started {}", started.group);
            std::process::abort();
        }
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", name, "--nocapture"]).env(ABORTS, "1");
        let owner = Process::start(command);
        let line = owner.wait_for_line(SOON, |line| line.contains("started "));
        let started = line.rsplit(' ').next().unwrap();
        let end = Instant::now() + SOON;
        while std::path::Path::new("/proc").join(started).exists() {
            assert!(Instant::now() < end, "{started} outlives its owner");
            thread::yield_now();
        }
        assert_eq!(owner.wait_for_exit(SOON).signal(), Some(6));
    }

    #[test]
    fn signals_reach_the_whole_group() {
        let killed = shell("sleep 1000 & echo ready; wait");
        killed.wait_for_line(SOON, |line| line == "ready");
        // The background process holds the pipe too, so the exit is reported only once it is gone.
        killed.kill();
        assert_eq!(killed.wait_for_exit(SOON).signal(), Some(9));

        let terminated = shell("trap 'echo bye; exit 7' TERM; echo ready; while :; do sleep 0.05; done");
        terminated.wait_for_line(SOON, |line| line == "ready");
        terminated.hold();
        terminated.terminate();
        assert!(terminated.is_running(), "a held process does not act on a signal");
        terminated.resume();
        assert_eq!(terminated.wait_for_exit(SOON).code(), Some(7));
        terminated.wait_for_line(SOON, |line| line == "bye");
    }
}
