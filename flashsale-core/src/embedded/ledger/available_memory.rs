//! How much memory the process can use.

use std::{fs, path::Path};

/// The memory that the machine has available, or the limit of a control group of this process if one
/// is lower, in bytes. `root` is `/` but in tests. `None` if neither can be read.
pub(super) fn bytes(root: &Path) -> Option<u64> {
    let read = |path: &Path| fs::read_to_string(root.join(path)).ok();
    let available = read(Path::new("proc/meminfo")).as_deref().and_then(available);
    let groups = read(Path::new("proc/self/cgroup")).unwrap_or_default();
    let limits = groups.lines().flat_map(limit_files);
    limits.filter_map(|file| read(file.as_ref())?.trim().parse().ok()).chain(available).min()
}

/// `MemAvailable` of `/proc/meminfo`, see proc_meminfo(5).
fn available(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    Some(line.trim().strip_suffix("kB")?.trim_end().parse::<u64>().ok()? * 1_024)
}

/// The files that may limit the memory of the control group in a line of `/proc/self/cgroup`, and of
/// the groups around it, see cgroups(7). A container sees its own group as the root.
fn limit_files(line: &str) -> Vec<String> {
    let mut parts = line.splitn(3, ':').skip(1);
    let (Some(controllers), Some(group)) = (parts.next(), parts.next()) else { return Vec::new() };
    let (mount, file) = match controllers {
        "" => ("sys/fs/cgroup", "memory.max"),
        "memory" => ("sys/fs/cgroup/memory", "memory.limit_in_bytes"),
        _ => return Vec::new(),
    };
    let groups = Path::new(group).ancestors().map(|group| group.to_string_lossy().into_owned());
    groups.map(|group| format!("{mount}/{}/{file}", group.trim_start_matches('/'))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine(files: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        root
    }

    #[test]
    fn the_lowest_of_the_machines_memory_and_the_groups_limits_counts() {
        let meminfo = ("proc/meminfo", "MemTotal:  900 kB\nMemAvailable:     600 kB\nBuffers: 5 kB\n");
        let group = ("proc/self/cgroup", "12:cpu:/a\n1:memory:/a/b\n0::/a/b\n");
        let limit = |path, text| bytes(machine(&[meminfo, group, (path, text)]).path());
        assert_eq!(bytes(machine(&[meminfo]).path()), Some(600 << 10));
        assert_eq!(limit("sys/fs/cgroup/a/b/memory.max", "max\n"), Some(600 << 10));
        assert_eq!(limit("sys/fs/cgroup/a/b/memory.max", "4096\n"), Some(4_096));
        assert_eq!(limit("sys/fs/cgroup/a/memory.max", "4096\n"), Some(4_096));
        assert_eq!(limit("sys/fs/cgroup/memory.max", "4096\n"), Some(4_096));
        assert_eq!(limit("sys/fs/cgroup/memory/a/memory.limit_in_bytes", "4096\n"), Some(4_096));
        // No limit, by version 1.
        let most = "9223372036854771712\n";
        assert_eq!(limit("sys/fs/cgroup/memory/a/memory.limit_in_bytes", most), Some(600 << 10));
        assert_eq!(bytes(machine(&[]).path()), None);
    }
}
