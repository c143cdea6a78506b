//! The machine that the figures are of, as the system describes it, and the commit.

use serde::{Deserialize, Serialize};
use std::fs;
use std::path::Path;
use std::process::Command;

/// Instruction sets that change what kernels run, as /proc/cpuinfo calls them.
const ISA: [&str; 9] =
    ["avx2", "fma", "avx512f", "avx512bw", "avx512_vnni", "avx512_vpopcntdq", "amx_int8", "asimd", "sve"];

/// What of a machine moves the figures. Empty where the system does not tell.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Machine {
    /// Model name, or implementer and part.
    pub cpu: String,
    /// Cores that this process may use.
    pub cores: usize,
    /// Instruction sets.
    pub isa: Vec<String>,
    /// MB (2²⁰ bytes) in the machine.
    pub memory_mb: u64,
    /// The setting of transparent huge pages.
    pub huge_pages: String,
    /// System and its version.
    pub system: String,
}

impl Machine {
    /// The machine at hand.
    pub fn detect() -> Self {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let (cpu, isa) = cpu(&read("/proc/cpuinfo"));
        Self {
            cpu,
            cores: std::thread::available_parallelism().map_or(0, usize::from),
            isa,
            memory_mb: memory_mb(&read("/proc/meminfo")),
            huge_pages: chosen(&read("/sys/kernel/mm/transparent_hugepage/enabled")),
            system: format!("{} {}", std::env::consts::OS, read("/proc/sys/kernel/osrelease").trim()),
        }
    }

    /// In one line.
    pub fn line(&self) -> String {
        format!(
            "{}, {} cores, {}, {} MB, huge pages: {}, {}",
            self.cpu,
            self.cores,
            self.isa.join(" "),
            self.memory_mb,
            self.huge_pages,
            self.system
        )
    }
}

fn cpu(cpuinfo: &str) -> (String, Vec<String>) {
    let field = |name: &str| {
        let fields = cpuinfo.lines().filter_map(|line| line.split_once(':'));
        let value = fields.filter(|(key, _)| key.trim() == name).map(|(_, value)| value.trim()).next();
        value.unwrap_or_default()
    };
    let family = format!("family {} model {}", field("cpu family"), field("model"));
    let named = field("model name");
    let cpu = if named.is_empty() {
        format!("implementer {} part {}", field("CPU implementer"), field("CPU part"))
    } else {
        format!("{named} ({family})")
    };
    let flags: Vec<&str> = field("flags").split(' ').chain(field("Features").split(' ')).collect();
    (cpu, ISA.iter().filter(|isa| flags.contains(isa)).map(ToString::to_string).collect())
}

fn memory_mb(meminfo: &str) -> u64 {
    let total = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    let kilobytes = total.and_then(|line| line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok());
    kilobytes.unwrap_or(0) / 1024
}

/// The word in brackets.
fn chosen(setting: &str) -> String {
    let word = setting.split_once('[').and_then(|(_, rest)| rest.split_once(']'));
    word.map_or_else(|| "unknown".to_owned(), |(word, _)| word.to_owned())
}

/// The commit of the checkout at `root`, with `+` behind it when tracked files differ; `unknown` without git.
pub fn commit(root: &Path) -> String {
    let git = |arguments: &[&str]| {
        let output = Command::new("git").arg("-C").arg(root).args(arguments).output().ok()?;
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let Some(commit) = git(&["rev-parse", "--short=12", "HEAD"]) else {
        return "unknown".to_owned();
    };
    let changed = git(&["status", "--porcelain", "--untracked-files=no"]).is_none_or(|list| !list.is_empty());
    if changed { commit + "+" } else { commit }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descriptions_of_both_architectures_are_read() {
        let x86 = "processor\t: 0\ncpu family\t: 25\nmodel\t\t: 17\nmodel name\t: AMD EPYC\n\
                   flags\t\t: fpu avx avx2 avx512f\n\nprocessor\t: 1\nmodel name\t: other\n";
        let isa = vec!["avx2".to_owned(), "avx512f".to_owned()];
        assert_eq!(cpu(x86), ("AMD EPYC (family 25 model 17)".to_owned(), isa));
        let arm = "Features\t: fp asimd sve\nCPU implementer\t: 0x41\nCPU part\t: 0xd40\n";
        let isa = vec!["asimd".to_owned(), "sve".to_owned()];
        assert_eq!(cpu(arm), ("implementer 0x41 part 0xd40".to_owned(), isa));
        assert_eq!(memory_mb("MemTotal:       2097152 kB\nMemFree: 1 kB\n"), 2048);
        assert_eq!(chosen("always [madvise] never"), "madvise");
        assert_eq!((chosen(""), memory_mb("")), ("unknown".to_owned(), 0));
    }
}
