//! What the operating system says of this process and this machine, from `/proc`.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

/// Bytes that this process has caused to be written to a device, page by page.
pub fn device_bytes() -> u64 {
    field("/proc/self/io", "write_bytes:")
}

/// Memory of this process that is in RAM now.
pub fn resident_bytes() -> u64 {
    1024 * field("/proc/self/status", "VmRSS:")
}

fn field(path: &str, name: &str) -> u64 {
    let text = fs::read_to_string(path).unwrap_or_else(|error| panic!("{path}: {error}"));
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.split_whitespace().next()?.parse().ok());
    value.unwrap_or_else(|| panic!("{path} has no {name}"))
}

/// Bytes that the files below a directory take up. A file that goes away meanwhile counts nothing.
pub fn directory_bytes(path: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    let Ok(entries) = fs::read_dir(path) else { return 0 };
    let bytes = entries.flatten().map(|entry| match entry.metadata() {
        Ok(metadata) if metadata.is_dir() => directory_bytes(&entry.path()),
        Ok(metadata) => metadata.blocks() * 512,
        Err(_) => 0,
    });
    bytes.sum()
}

/// How busy other processes have kept the processors since the last time it was asked.
#[derive(Debug)]
pub struct Others {
    busy: u64,
    total: u64,
    part: f64,
}

/// Fewer ticks than this say nothing.
const TICKS_MIN: u64 = 20;

impl Others {
    /// Begins now.
    pub fn from_now() -> Others {
        let (busy, total) = others_ticks();
        Others { busy, total, part: 0.0 }
    }

    /// Their part of all processors, from 0 to 1; the same as before when hardly any time has passed. What the kernel
    /// does for this process counts here, too.
    pub fn part(&mut self) -> f64 {
        let (busy, total) = others_ticks();
        let passed = total.saturating_sub(self.total);
        if passed >= TICKS_MIN {
            self.part = busy.saturating_sub(self.busy) as f64 / passed as f64;
            (self.busy, self.total) = (busy, total);
        }
        self.part
    }
}

/// Ticks in which the processors were busy with others than this process and its children, and all ticks.
fn others_ticks() -> (u64, u64) {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_else(|error| panic!("{path}: {error}"));
    let numbers = |text: &str| text.split_whitespace().map_while(|number| number.parse().ok()).collect::<Vec<u64>>();
    // User, nice, system, idle, waiting for input and output, interrupts of two kinds, stolen.
    let all = numbers(read("/proc/stat").lines().next().and_then(|line| line.strip_prefix("cpu")).unwrap_or_default());
    let total: u64 = all.iter().take(8).sum();
    let idle: u64 = all.iter().skip(3).take(2).sum();
    // After the name, which may hold anything, and a letter: fields 4 on, of which 14 to 17 are times.
    let own = read("/proc/self/stat");
    let own = own.rsplit_once(')').and_then(|(_, rest)| rest.trim_start().split_once(' ')).map_or("", |(_, rest)| rest);
    let own: i64 = own.split_whitespace().skip(10).take(4).filter_map(|number| number.parse::<i64>().ok()).sum();
    ((total - idle).saturating_sub(own.max(0) as u64), total)
}

/// Waits until nothing has been written for a tenth of a second, so that one round's flushes and compactions are not
/// the next one's; for three seconds at most.
pub fn settle() {
    let began = Instant::now();
    let (mut last, mut since) = (device_bytes(), began);
    while since.elapsed() < Duration::from_millis(100) && began.elapsed() < Duration::from_secs(3) {
        std::thread::sleep(Duration::from_millis(10));
        let now = device_bytes();
        if now != last {
            (last, since) = (now, Instant::now());
        }
    }
}

/// What kind of machine this is: processor, cores, memory, file system, kernel. No names.
pub fn machine(directory: &Path) -> String {
    let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model =
        cpuinfo.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": ")).map(|(_, name)| name);
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let memory = field("/proc/meminfo", "MemTotal:") >> 20;
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let kernel: String = kernel.trim().chars().take_while(|&c| c.is_ascii_digit() || c == '.').collect();
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let mounts = mounts.lines().filter_map(|line| {
        let mut fields = line.split(' ').skip(1);
        Some((fields.next()?, fields.next()?))
    });
    let within = mounts.filter(|(mount, _)| directory.starts_with(mount));
    let file_system = within.max_by_key(|(mount, _)| mount.len()).map_or("unknown", |(_, kind)| kind);
    let model = model.unwrap_or("unknown processor");
    format!("{model}, {cores} cores, {memory} GiB, {file_system}, Linux {kernel}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn others_have_a_part() {
        let mut others = Others::from_now();
        std::thread::sleep(Duration::from_millis(200));
        let part = others.part();
        assert!((0.0..=1.0).contains(&part), "{part}");
    }
}
