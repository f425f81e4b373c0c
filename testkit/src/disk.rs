//! A separate file system that can lose power.
//!
//! It is an ext4 image on a loop device. Data that was written but not synced sits in the page
//! cache of the file system *inside* the image and has not reached the image; synced data has. A
//! copy of the image, taken while the program is stopped, is therefore what a disk holds after a
//! power cut. `kill -9` proves nothing about syncing, because the page cache survives it.

use std::{
    fmt, fs,
    io::{self, Write},
    path::{Path, PathBuf},
    process::Command,
};

use tempfile::TempDir;

use crate::process::Process;

/// A mounted file system, unmounted and deleted on drop.
pub struct Disk {
    // Holds the image and the mount point.
    home: TempDir,
}

impl Disk {
    /// Creates and mounts an empty file system of `size_mib` MiB.
    ///
    /// # Errors
    /// If this process may not mount: without root, in most containers, or without mkfs.ext4.
    pub fn new(size_mib: u32) -> Result<Self, MountRefused> {
        let home =
            tempfile::tempdir().map_err(|error| MountRefused(format!("no temporary directory: {error}")))?;
        let disk = Self { home };
        fs::File::create(disk.image())
            .and_then(|image| image.set_len(u64::from(size_mib) << 20))
            .map_err(|error| MountRefused(format!("no room for an image: {error}")))?;
        // Initialize everything now: lazy initialization would write to the image later.
        let format = ["-q", "-F", "-E", "lazy_itable_init=0,lazy_journal_init=0"];
        run(command("mkfs.ext4").args(format).arg(disk.image()))?;
        disk.mount()?;
        Ok(disk)
    }

    /// The root of the file system.
    pub fn path(&self) -> PathBuf {
        self.home.path().join("mounted")
    }

    /// Cuts the power while `process` runs on this disk, and returns the disk after the power is
    /// back: synced data is there, unsynced data is not (unless the kernel happened to write it).
    ///
    /// # Panics
    /// If the image cannot be copied, or the copy cannot be mounted.
    #[track_caller]
    pub fn power_cut(&self, process: &Process) -> Self {
        process.hold();
        let cut = Self { home: tempfile::tempdir().expect("one was created before") };
        // If the kernel writes to the image during the copy, the copy is inconsistent: repeat it.
        let mut before = self.writes();
        loop {
            run(command("cp").args(["--reflink=auto", "--sparse=always"]).arg(self.image()).arg(cut.image()))
                .unwrap_or_else(|refused| panic!("cannot copy the image: {refused}"));
            let after = self.writes();
            if before == after && after.in_flight == 0 {
                break;
            }
            before = after;
        }
        process.kill();
        cut.mount().unwrap_or_else(|refused| panic!("cannot mount the copy: {refused}"));
        cut
    }

    /// Fills the disk with a file until not one more byte fits.
    ///
    /// # Panics
    /// If writing fails for any reason other than a full disk.
    pub fn fill(&self) {
        let path = self.filler();
        let mut file = fs::File::create(&path).expect("a file can be created on a mounted disk");
        let mut size = 1 << 20;
        // Ever smaller pieces down to one byte, synced so delayed allocation cannot hide the end.
        while size > 0 {
            match file.write_all(&vec![0xa5; size]).and_then(|()| file.sync_all()) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::StorageFull => size /= 2,
                Err(error) => panic!("cannot fill {}: {error}", path.display()),
            }
        }
    }

    /// Removes the file that fills the disk.
    ///
    /// # Panics
    /// If the disk was not filled, or is still full afterwards.
    pub fn make_room(&self) {
        fs::remove_file(self.filler()).expect("a filled disk has a filler");
        // ext4 reuses blocks only some time after their release is durable.
        let room = (0..100).any(|_| {
            run(command("sync").arg("--file-system").arg(self.path())).expect("a mounted disk can be synced");
            fs::write(self.filler(), [0; 4096]).is_ok()
        });
        assert!(room, "the disk is still full without its filler");
        fs::remove_file(self.filler()).expect("it was just written");
    }

    /// Remounts the disk read-only.
    ///
    /// # Panics
    /// If that fails, for instance because a file on it is open for writing.
    #[track_caller]
    pub fn make_read_only(&self) {
        run(command("mount").args(["-o", "remount,ro"]).arg(self.path()))
            .unwrap_or_else(|refused| panic!("{refused}"));
    }

    fn filler(&self) -> PathBuf {
        self.path().join("filler")
    }

    fn image(&self) -> PathBuf {
        self.home.path().join("image")
    }

    fn mount(&self) -> Result<(), MountRefused> {
        fs::create_dir_all(self.path()).map_err(|error| MountRefused(format!("no mount point: {error}")))?;
        // By default ext4 commits its journal every 5 s, which could make unsynced writes durable.
        let options = "loop,noatime,commit=600";
        run(command("mount").args(["-t", "ext4", "-o", options]).arg(self.image()).arg(self.path()))
    }

    fn writes(&self) -> Writes {
        let device = loop_device(&self.path()).expect("the disk is mounted");
        let path = format!("/sys/block/{device}/stat");
        let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("cannot read {path}: {error}"));
        let fields: Vec<u64> = text.split_whitespace().map(|field| field.parse().unwrap_or(0)).collect();
        // Documented in the kernel's Documentation/block/stat.rst.
        Writes { completed: fields[4], in_flight: fields[8] }
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        if loop_device(&self.path()).is_some() && run(command("umount").arg(self.path())).is_err() {
            // A file on it is still open; a lazy unmount takes effect when it is closed.
            let _ = run(command("umount").arg("--lazy").arg(self.path()));
        }
    }
}

/// This process may not mount a file system here.
#[derive(Debug)]
pub struct MountRefused(String);

impl fmt::Display for MountRefused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "mounting a disk image is not possible here ({}); it needs root, loop devices and mkfs.ext4",
            self.0
        )
    }
}

impl std::error::Error for MountRefused {}

/// Write requests that the loop device has completed, and those in flight.
#[derive(PartialEq, Eq)]
struct Writes {
    completed: u64,
    in_flight: u64,
}

/// The loop device mounted at `mount_point`.
fn loop_device(mount_point: &Path) -> Option<String> {
    let mounts = fs::read_to_string("/proc/self/mounts").ok()?;
    mounts.lines().find_map(|line| {
        let (device, rest) = line.split_once(' ')?;
        let (mounted_at, _) = rest.split_once(' ')?;
        if Path::new(mounted_at) == mount_point {
            device.strip_prefix("/dev/").map(str::to_owned)
        } else {
            None
        }
    })
}

/// Builds a command that is also looked up in root's PATH.
fn command(program: &str) -> Command {
    let mut command = Command::new(program);
    let path = std::env::var("PATH").unwrap_or_default();
    command.env("PATH", format!("{path}:/usr/sbin:/sbin")).env("LC_ALL", "C");
    command
}

fn run(command: &mut Command) -> Result<(), MountRefused> {
    let program = command.get_program().to_string_lossy().into_owned();
    match command.output() {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => {
            Err(MountRefused(format!("{program}: {}", String::from_utf8_lossy(&output.stderr).trim())))
        }
        Err(error) => Err(MountRefused(format!("{program}: {error}"))),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const SOON: Duration = Duration::from_secs(30);

    fn disk() -> Option<Disk> {
        Disk::new(32).map_err(|refused| crate::say(&format!("NOT RUN: {refused}"))).ok()
    }

    fn writer(disk: &Disk, script: &str) -> Process {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", script]).current_dir(disk.path());
        Process::start(command)
    }

    #[test]
    fn a_power_cut_keeps_what_was_synced_and_nothing_else() {
        let Some(disk) = disk() else { return };
        let writer = writer(
            &disk,
            "echo a > kept && sync kept && echo b >> kept && echo c > lost && echo ready && exec sleep 1000",
        );
        writer.wait_for_line(SOON, |line| line == "ready");
        assert_eq!(fs::read_to_string(disk.path().join("kept")).unwrap(), "a\nb\n");
        assert!(disk.path().join("lost").exists());

        let disk = disk.power_cut(&writer);
        assert!(!writer.is_running());
        assert_eq!(fs::read_to_string(disk.path().join("kept")).unwrap(), "a\n");
        assert!(!disk.path().join("lost").exists());
    }

    #[test]
    fn a_full_disk_takes_nothing_until_there_is_room() {
        let Some(disk) = disk() else { return };
        disk.fill();
        let refused = fs::write(disk.path().join("more"), vec![1; 4096]).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::StorageFull);
        disk.make_room();
        fs::write(disk.path().join("more"), vec![1; 4096]).unwrap();
    }

    #[test]
    fn a_dropped_disk_is_gone() {
        let Some(disk) = disk() else { return };
        let path = disk.path();
        assert!(loop_device(&path).is_some());
        drop(disk);
        assert!(loop_device(&path).is_none() && !path.exists());
    }
}
