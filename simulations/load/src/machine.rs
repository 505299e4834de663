//! Machine: cores, and what the system counts of a process.
//! Owns: the core of whatever is measured and the cores of everybody else; `/proc` (proc_pid_stat(5) and its neighbours).
//! Never: a figure; a reading is an absolute number, and whoever needs a difference takes two.

use std::fs;
use std::io;
use std::path::Path;
use std::process::{Child, Command};

use anyhow::Context as _;
use rustix::param::{clock_ticks_per_second, page_size};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// statfs(2): a file system that lives in memory.
const TMPFS_MAGIC: u64 = 0x0102_1994;

/// Which core is whose.
#[derive(Clone, Debug)]
pub(crate) struct Machine {
    measured: CpuSet,
    others: CpuSet,
    /// Cores this process may use.
    pub(crate) cores: usize,
}

impl Machine {
    /// Takes the first core for what is measured and moves this thread, and with it every later one, to the others. On a
    /// machine with one core they share it.
    pub(crate) fn divide() -> anyhow::Result<Self> {
        let all = sched_getaffinity(None).context("the system does not tell its cores")?;
        let mut cores = (0..CpuSet::MAX_CPU).filter(|core| all.is_set(*core));
        let first = cores.next().context("no core")?;
        let mut measured = CpuSet::new();
        measured.set(first);
        let mut others = CpuSet::new();
        cores.for_each(|core| others.set(core));
        if others.count() == 0 {
            others = measured;
        }
        let machine = Self { measured, others, cores: all.count() as usize };
        sched_setaffinity(None, &machine.others).context("this thread cannot be moved")?;
        Ok(machine)
    }

    /// Starts a process on the measured core: it is born with the affinity of the thread that starts it, so that not
    /// even its first thread runs elsewhere.
    pub(crate) fn spawn(&self, command: &mut Command) -> anyhow::Result<Child> {
        sched_setaffinity(None, &self.measured).context("this thread cannot be moved")?;
        let child = command.spawn();
        sched_setaffinity(None, &self.others).context("this thread cannot be moved back")?;
        child.with_context(|| format!("{} does not start", command.get_program().display()))
    }
}

/// What the system counts of one process.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Process(pub(crate) u32);

impl Process {
    fn read(self, file: &str) -> anyhow::Result<String> {
        let path = format!("/proc/{}/{file}", self.0);
        fs::read_to_string(&path).with_context(|| path)
    }

    /// Seconds its threads, also those that ended, had a core, in both modes.
    pub(crate) fn cpu_s(self) -> anyhow::Result<f64> {
        self.ticks().map(|(own, _)| own)
    }

    /// The same, with its children that have ended: opening a store may take a trial in one.
    pub(crate) fn cpu_s_with_children(self) -> anyhow::Result<f64> {
        self.ticks().map(|(own, children)| own + children)
    }

    fn ticks(self) -> anyhow::Result<(f64, f64)> {
        let (own, children) = cpu_ticks(&self.read("stat")?).context("/proc/PID/stat has another form")?;
        let second = clock_ticks_per_second() as f64;
        Ok((own as f64 / second, children as f64 / second))
    }

    /// Bytes of its memory that are in the machine's.
    pub(crate) fn rss_bytes(self) -> anyhow::Result<u64> {
        let statm = self.read("statm")?;
        let pages = statm.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok());
        Ok(pages.context("/proc/PID/statm has another form")? * page_size() as u64)
    }

    /// Bytes it gave to write calls, sockets aside: files only count what went to a disk's cache.
    pub(crate) fn written_bytes(self) -> anyhow::Result<u64> {
        let io = self.read("io")?;
        let written = io.lines().find_map(|line| line.strip_prefix("write_bytes: "));
        written.and_then(|bytes| bytes.parse().ok()).context("/proc/PID/io has another form")
    }
}

/// User and system time, fields 14 and 15, and that of children waited for, fields 16 and 17. The second field is a name
/// that may hold anything but ends with the last parenthesis.
fn cpu_ticks(stat: &str) -> Option<(u64, u64)> {
    let (_, fields) = stat.rsplit_once(") ")?;
    let mut fields = fields.split(' ').skip(11).map(|field| field.parse::<u64>().ok());
    let mut both = || Some(fields.next()?? + fields.next()??);
    Some((both()?, both()?))
}

/// Bytes that the files of a folder take on the disk.
pub(crate) fn folder_bytes(folder: &Path) -> io::Result<u64> {
    use std::os::unix::fs::MetadataExt as _;
    let mut bytes = 0;
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder)? {
            let entry = entry?;
            match entry.metadata() {
                Ok(metadata) if metadata.is_dir() => folders.push(entry.path()),
                // A block is 512 bytes here whatever the disk's are (inode(7)).
                Ok(metadata) => bytes += metadata.blocks() * 512,
                // An engine removes files while it runs.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
    }
    Ok(bytes)
}

/// Whether a sync in this folder reaches no disk.
pub(crate) fn is_in_memory(folder: &Path) -> bool {
    rustix::fs::statfs(folder).is_ok_and(|system| u64::try_from(system.f_type) == Ok(TMPFS_MAGIC))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_spaces_and_parentheses_does_not_move_the_fields() {
        let stat = "7 (a) b) S 1 7 7 0 -1 4194304 120 0 0 0 250 31 4 2 20 0 5 0 1 1 1";
        assert_eq!(cpu_ticks(stat), Some((281, 6)));
        assert_eq!(cpu_ticks("7 (a) S 1"), None);
    }

    #[test]
    fn this_very_process_is_counted() {
        let own = Process(std::process::id());
        assert!(own.rss_bytes().unwrap() > 100_000);
        assert!(own.cpu_s().unwrap() < 1e6);
        own.written_bytes().unwrap();
    }
}
