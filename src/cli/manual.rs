//! What a package installs beside the program: manual pages and completions, both made of the tree of arguments.

use std::fs;
use std::io;
use std::path::Path;

use clap::Command;
use clap_complete::Shell;
use clap_mangen::Man;
use clap_mangen::roff::{Roff, bold, roman};

use crate::cli::args::groups::{command, exit_codes};
use crate::cli::error::CliError;
use crate::cli::{Outcome, Screen};
use crate::model::{config, layout};

pub fn completions(screen: &Screen, shell: Shell) -> Result<Outcome, CliError> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut command(), "csm", &mut script);
    screen.print(&String::from_utf8_lossy(&script))?;
    Ok(Outcome::Done)
}

/// Writes csm.1 and a page for each verb.
pub fn write(directory: &Path) -> Result<Outcome, CliError> {
    let mut command = command();
    command.build();
    fs::create_dir_all(directory)
        .and_then(|()| write_pages(&command, directory))
        .map_err(|source| CliError::Machine {
            doing: "write the manual pages",
            source: source.into(),
        })?;
    Ok(Outcome::Done)
}

fn write_pages(command: &Command, directory: &Path) -> io::Result<()> {
    let name = command.get_display_name().unwrap_or_else(|| command.get_name());
    fs::write(directory.join(format!("{name}.1")), page(command, name)?)?;
    let verbs = command.get_subcommands();
    for verb in verbs.filter(|verb| !verb.is_hide_set() && verb.get_name() != "help") {
        write_pages(verb, directory)?;
    }
    Ok(())
}

fn page(command: &Command, name: &str) -> io::Result<Vec<u8>> {
    let man = Man::new(command.clone())
        .title(name.to_uppercase())
        .manual("code-server-multi")
        .source(concat!("csm ", env!("CARGO_PKG_VERSION")));
    let mut text = Vec::new();
    man.render_title(&mut text)?;
    man.render_name_section(&mut text)?;
    man.render_synopsis_section(&mut text)?;
    man.render_description_section(&mut text)?;
    man.render_options_section(&mut text)?;
    if command.get_subcommands().any(|verb| !verb.is_hide_set()) {
        man.render_subcommands_section(&mut text)?;
    }
    let mut rest = Roff::new();
    rest.control("SH", ["EXIT STATUS"]);
    for (code, meaning) in exit_codes(command.get_name()) {
        rest.control("TP", []).text([bold(*code)]).text([roman(*meaning)]);
    }
    rest.control("SH", ["FILES"]);
    for (path, meaning) in [
        (
            config::DEFAULT_PATH,
            "the configuration; `csm config schema` describes it",
        ),
        (
            layout::ADMIN_SOCKET,
            "where the daemon answers root and members of the group csm-admin",
        ),
    ] {
        rest.control("TP", []).text([bold(path)]).text([roman(meaning)]);
    }
    rest.to_writer(&mut text)?;
    Ok(text)
}
