//! What the project's pages say of themselves and of the command line: links lead somewhere, and every command and flag
//! of `etagdb` that they name is one that `--help` knows.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::binary;
use crate::sdk::where_there_is;

#[test]
fn links_lead_somewhere() {
    let mut broken = Vec::new();
    for page in pages() {
        let text = read(&page);
        for target in links(&text) {
            if target.contains("://") || target.starts_with("mailto:") {
                continue;
            }
            let (file, anchor) = target.split_once('#').unwrap_or((target.as_str(), ""));
            let file = if file.is_empty() { page.clone() } else { page.parent().expect("a directory").join(file) };
            if !file.exists() || (!anchor.is_empty() && !anchors(&read(&file)).contains(anchor)) {
                broken.push(format!("{}: {target}", page.display()));
            }
        }
    }
    assert!(broken.is_empty(), "links that lead nowhere:\n{}", broken.join("\n"));
}

#[test]
fn commands_and_flags_exist() {
    let help = help();
    let mut unknown = Vec::new();
    for page in pages() {
        for command in commands(&read(&page)) {
            unknown.extend(unknown_in(&command, &help).map(|what| format!("{}: {what}", page.display())));
        }
    }
    for file in files(&project().join("packaging"), &|_| true) {
        // Comments are prose.
        let text: String = read(&file).replace("\\\n", " ");
        for line in text.lines().filter(|line| !line.trim_start().starts_with('#') && !file.ends_with("README.md")) {
            unknown.extend(unknown_in(line, &help).map(|what| format!("{}: {what}", file.display())));
        }
    }
    assert!(unknown.is_empty(), "the command line knows nothing of:\n{}", unknown.join("\n"));
}

/// systemd's own reading of the unit, where there is one; with the built server in place of the installed one.
#[test]
fn the_unit_is_one_that_systemd_takes() {
    where_there_is("systemd unit", &["systemd-analyze"], || {
        let unit = read(&project().join("packaging/etagdb.service"));
        let binary = std::path::absolute(binary::find()).expect("a working directory");
        let installed = "/usr/local/bin/etagdb";
        assert!(unit.contains(installed), "the unit runs another program");
        let directory = tempfile::tempdir().expect("a temporary directory");
        let copy = directory.path().join("etagdb.service");
        std::fs::write(&copy, unit.replace(installed, &binary.to_string_lossy())).expect("a copy of the unit");
        let output = Command::new("systemd-analyze").arg("verify").arg(&copy).output().expect("systemd-analyze");
        let said = String::from_utf8_lossy(&output.stderr);
        // It warns of units that are the machine's own, too.
        let about: Vec<&str> = said.lines().filter(|line| line.contains("etagdb")).collect();
        assert!(output.status.success() && about.is_empty(), "{}: {said}", output.status);
    });
}

/// The flags of each command, as its help names them.
type Help = BTreeMap<String, BTreeSet<String>>;

fn help() -> Help {
    let ask = |arguments: &[&str]| {
        let output = Command::new(binary::find()).args(arguments).arg("--help").output().expect("the binary");
        assert!(output.status.success(), "{arguments:?} --help ended with {}", output.status);
        String::from_utf8(output.stdout).expect("help in UTF-8")
    };
    let all = ask(&[]);
    let (_, listed) = all.split_once("Commands:\n").expect("a list of commands");
    let names = listed.lines().take_while(|line| !line.trim().is_empty()).filter_map(|line| line.strip_prefix("  "));
    let names = names.filter(|line| !line.starts_with(' ')).filter_map(|line| line.split_whitespace().next());
    let mut help: Help =
        names.filter(|name| *name != "help").map(|name| (name.to_owned(), flags(&ask(&[name])))).collect();
    help.insert(String::new(), flags(&all));
    help
}

/// Everything in a text that looks like a long flag.
fn flags(text: &str) -> BTreeSet<String> {
    let mut flags = BTreeSet::new();
    for (at, _) in text.match_indices("--") {
        let before = text[..at].chars().next_back().unwrap_or(' ');
        let name: String =
            text[at + 2..].chars().take_while(|letter| letter.is_ascii_alphanumeric() || *letter == '-').collect();
        if !before.is_alphanumeric() && before != '-' && !name.is_empty() && !name.starts_with('-') {
            flags.insert(format!("--{name}"));
        }
    }
    flags
}

/// What a line of a shell, or a span of code, says of `etagdb` that is not so.
fn unknown_in(line: &str, help: &Help) -> impl Iterator<Item = String> {
    let mut unknown = Vec::new();
    let words: Vec<&str> = line
        .split(|letter: char| letter.is_whitespace() || "\"'[],()".contains(letter))
        .filter(|w| !w.is_empty())
        .collect();
    let mut known: Option<&BTreeSet<String>> = None;
    let mut words = words.into_iter().peekable();
    if words.peek().is_some_and(|word| word.starts_with("--")) && !line.contains("etagdb") {
        // A flag by itself, such as `--strict`: some command's.
        for flag in flags(line).into_iter().filter(|flag| !help.values().any(|flags| flags.contains(flag))) {
            unknown.push(flag);
        }
        return unknown.into_iter();
    }
    while let Some(word) = words.next() {
        if word == "etagdb" || word.ends_with("/etagdb") {
            known = words.peek().and_then(|name| help.get(*name)).or(help.get(""));
            let is_name = |name: &&str| name.len() > 2 && name.chars().all(|c| c.is_ascii_lowercase() || c == '-');
            // The line that a server prints, `etagdb ready on`, is no command.
            if words.next_if_eq(&"ready").is_some() {
                known = None;
            } else if let Some(name) = words.next_if(|name| is_name(name) && !name.starts_with('-'))
                && !help.contains_key(name)
            {
                unknown.push(format!("etagdb {name}"));
                known = None;
            }
        } else if matches!(word, "|" | "||" | "&&" | ";" | "--") {
            known = None;
        } else if let (Some(known), true) = (known, word.starts_with("--")) {
            unknown.extend(flags(word).into_iter().take(1).filter(|flag| !known.contains(flag)));
        }
    }
    unknown.into_iter()
}

/// The lines of a page that a shell would run, continuations joined, and its spans of code that are commands or flags.
fn commands(page: &str) -> Vec<String> {
    let mut commands = Vec::new();
    let mut shell = None;
    for line in page.replace("\\\n", " ").lines() {
        let fence = line.trim_start().strip_prefix("```");
        match (shell, fence) {
            (None, Some(language)) => shell = Some(language == "sh"),
            (Some(_), Some(_)) => shell = None,
            (Some(true), None) => commands.push(line.split(" # ").next().unwrap_or_default().to_owned()),
            (Some(false), None) => {}
            (None, None) => {
                let spans = line.split('`').skip(1).step_by(2);
                commands.extend(spans.filter(|s| s.starts_with("etagdb ") || s.starts_with("--")).map(str::to_owned));
            }
        }
    }
    commands
}

/// The targets of a page's links and pictures, blocks of code aside.
fn links(page: &str) -> Vec<String> {
    let mut targets = Vec::new();
    let mut code = false;
    for line in page.lines() {
        if line.trim_start().starts_with("```") {
            code = !code;
        } else if !code {
            // What is in a span of code is no link.
            let prose: String = line.split('`').step_by(2).collect::<Vec<_>>().join("`");
            for opening in ["](", "src=\"", "srcset=\""] {
                let rests = prose.split(opening).skip(1);
                targets.extend(rests.filter_map(|rest| Some(rest.split([')', '"', ' ']).next()?.to_owned())));
            }
        }
    }
    targets
}

/// The anchors that a page's headings get: lower case, without punctuation, with hyphens for spaces.
fn anchors(page: &str) -> BTreeSet<String> {
    let mut code = false;
    let mut anchors = BTreeSet::new();
    for line in page.lines() {
        if line.trim_start().starts_with("```") {
            code = !code;
        } else if let (false, Some(heading)) = (code, line.strip_prefix('#')) {
            let heading = heading.trim_start_matches('#').trim().to_lowercase();
            let kept = heading.chars().filter(|letter| letter.is_alphanumeric() || " -_".contains(*letter));
            anchors.insert(kept.map(|letter| if letter == ' ' { '-' } else { letter }).collect());
        }
    }
    anchors
}

/// The project's pages.
fn pages() -> Vec<PathBuf> {
    let mut pages = files(&project(), &|name| !matches!(name, "target" | "node_modules" | "etagdb-data"));
    pages.retain(|path| path.extension().is_some_and(|extension| extension == "md"));
    assert!(pages.iter().any(|page| page.ends_with("README.md")), "no pages where the project is");
    pages
}

/// The files in a directory and those below it that are wanted; nothing hidden.
fn files(directory: &Path, wanted: &dyn Fn(&str) -> bool) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in directory.read_dir().unwrap_or_else(|error| panic!("{}: {error}", directory.display())) {
        let path = entry.expect("an entry").path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if name.starts_with('.') || !wanted(&name) {
            continue;
        }
        if path.is_dir() {
            found.extend(files(&path, wanted));
        } else {
            found.push(path);
        }
    }
    found.sort();
    found
}

fn project() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the project").to_owned()
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

#[test]
fn what_is_wrong_with_a_page_is_seen() {
    let known = |flags: &[&str]| flags.iter().map(|flag| (*flag).to_owned()).collect();
    let help =
        Help::from([(String::new(), known(&["--version"])), ("serve".to_owned(), known(&["--data", "--strict"]))]);
    let unknown = |line: &str| unknown_in(line, &help).collect::<Vec<_>>();
    for good in ["etagdb serve --data x && cp --archive x y", "etagdb --version", "--strict", "curl --fail http://x"] {
        assert!(unknown(good).is_empty(), "{good}: {:?}", unknown(good));
    }
    assert_eq!(unknown("A=1 etagdb sevre --data x"), ["etagdb sevre"]);
    assert_eq!(unknown("\"/usr/bin/etagdb\", \"serve\", \"--dta=x\""), ["--dta"]);
    assert_eq!(unknown("--srtict"), ["--srtict"]);
    let page = "# A page: `one`\n[a](b.md#c) ![p](p.png) `[x](y)`\n```sh\netagdb serve \\\n  --data x # why\n[n](o)\n```\n`--strict`\n";
    assert_eq!(links(page), ["b.md#c", "p.png"]);
    assert_eq!(anchors(page), BTreeSet::from(["a-page-one".to_owned()]));
    assert_eq!(commands(page), ["etagdb serve    --data x", "[n](o)", "--strict"]);
}
