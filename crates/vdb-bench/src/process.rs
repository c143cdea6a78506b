//! One round of one contender: a process, what it prints, and a limit on its time.

use crate::protocol::Line;
use crate::results::{Outcome, Round};
use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// Runs `command` to its end, or for `limit`, then it is killed. Nothing is an error here: what goes wrong is the outcome.
pub fn run(command: &mut Command, limit: Duration) -> Round {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = match command.spawn() {
        Ok(child) => child,
        Err(error) => {
            let program = command.get_program().to_string_lossy();
            return Round::without_rows(Outcome::Failed(format!("{program}: {error}")));
        }
    };
    let (out, err) = (child.stdout.take(), child.stderr.take());
    let lines = thread::spawn(move || out.map_or_else(Vec::new, text_lines));
    let errors = thread::spawn(move || err.map_or_else(Vec::new, text_lines));
    let ended = wait(&mut child, limit);
    let lines = lines.join().expect("reading lines does not panic");
    let errors = errors.join().expect("reading lines does not panic");
    let mut round = read(&lines);
    match ended {
        End::Well => {}
        End::Badly => {
            let last = errors.last().cloned();
            round.outcome = Outcome::Failed(last.unwrap_or_else(|| "it failed without a word".to_owned()));
        }
        // The last line may be half a line.
        End::AtTheLimit => round.outcome = Outcome::Stopped(limit.as_secs_f64()),
        End::Unknown(reason) => round.outcome = Outcome::Failed(reason),
    }
    round
}

/// How a process ended.
enum End {
    Well,
    Badly,
    AtTheLimit,
    Unknown(String),
}

/// Lines that are not empty, whatever bytes are in them.
fn text_lines(from: impl Read) -> Vec<String> {
    let lines = BufReader::new(from).split(b'\n').map_while(Result::ok);
    let texts = lines.map(|line| String::from_utf8_lossy(&line).trim().to_owned());
    texts.filter(|line| !line.is_empty()).collect()
}

/// Waits for the end, or for `limit` and ends it.
fn wait(child: &mut Child, limit: Duration) -> End {
    let start = Instant::now();
    loop {
        match child.try_wait() {
            Ok(Some(status)) if status.success() => return End::Well,
            Ok(Some(_)) => return End::Badly,
            Ok(None) if start.elapsed() < limit => thread::sleep(Duration::from_millis(20)),
            Ok(None) => {
                let _ = child.kill();
                let _ = child.wait();
                return End::AtTheLimit;
            }
            Err(error) => return End::Unknown(error.to_string()),
        }
    }
}

/// What the lines say. Rows are needed for success.
fn read(lines: &[String]) -> Round {
    let mut round = Round::without_rows(Outcome::Measured);
    for line in lines {
        match Line::parse(line) {
            Ok(Line::Absent { absent }) => {
                round.outcome = Outcome::Absent(absent);
                return round;
            }
            Ok(Line::Version { version }) => round.version = Some(version),
            Ok(Line::Row(row)) => round.rows.push(row),
            Err(error) => {
                round.outcome = Outcome::Failed(error.to_string());
                return round;
            }
        }
    }
    if round.rows.is_empty() {
        round.outcome = Outcome::Failed("it measured nothing".to_owned());
    }
    round
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROW: &str = r#"{"param":10,"recall":0.9,"qps":5.0,"build_s":1.0,"rss_mb":1.0}"#;

    fn check(script: &str, limit: Duration) -> Round {
        run(Command::new("sh").args(["-c", script]), limit)
    }

    fn outcome(script: &str) -> Outcome {
        check(script, Duration::from_secs(60)).outcome
    }

    #[test]
    fn rows_and_the_version_are_kept() {
        let round =
            check(&format!("echo '{{\"version\":\"3\"}}'; echo; echo '{ROW}'"), Duration::from_secs(60));
        assert_eq!(round.outcome, Outcome::Measured);
        assert_eq!((round.version.as_deref(), round.rows.len(), round.rows[0].param), (Some("3"), 1, 10));
    }

    #[test]
    fn absence_and_failure_are_told_apart_and_neither_is_success() {
        let failed = |reason: &str| Outcome::Failed(reason.to_owned());
        assert_eq!(
            outcome(r#"echo '{"absent":"no such module"}'"#),
            Outcome::Absent("no such module".into())
        );
        assert_eq!(outcome("echo first >&2; echo last >&2; exit 3"), failed("last"));
        assert_eq!(outcome("exit 1"), failed("it failed without a word"));
        assert_eq!(outcome("true"), failed("it measured nothing"));
        assert_eq!(outcome("kill -9 $$"), failed("it failed without a word"));
        assert_eq!(outcome(&format!("echo '{ROW}'; echo nonsense")), failed("not a measurement: nonsense"));
        // What was measured before a failure is kept, as a failure.
        let round = check(&format!("echo '{ROW}'; echo broke >&2; exit 1"), Duration::from_secs(60));
        assert_eq!((round.outcome, round.rows.len()), (failed("broke"), 1));
        let round = run(&mut Command::new("/nowhere/python"), Duration::from_secs(1));
        assert!(matches!(&round.outcome, Outcome::Failed(reason) if reason.contains("/nowhere/python")));
    }

    #[test]
    fn a_process_over_its_limit_is_ended() {
        let round = check(&format!("echo '{ROW}'; exec sleep 600"), Duration::from_millis(300));
        assert_eq!((round.outcome, round.rows.len()), (Outcome::Stopped(0.3), 1));
    }

    #[test]
    fn much_output_does_not_stop_a_process() {
        let script = format!("head -c 300000 /dev/zero | tr '\\0' x >&2; echo >&2; echo '{ROW}'");
        assert_eq!(outcome(&script), Outcome::Measured);
    }
}
