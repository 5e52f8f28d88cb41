"""The `strata` command: a dispatcher that stays light, over one Hydra app per subcommand."""

import importlib
import os
import shlex
import sys

COMMANDS = {
    "run": "run an experiment: curate, pretrain, evaluate, table",
    "plan": "show the stages of an experiment: what is cached, predicted time and memory; runs nothing",
    "table": "write the table and figure of what is finished",
    "curate": "your own data in, a balanced subset out; no training",
    "embed": "a pool through an encoder into an embedding store",
    "cluster": "an embedding store into a hierarchy of clusters, on one process or many",
    "sample": "a hierarchy of clusters, ours or one in Meta's layout, into a balanced subset",
    "update": "more data for a curated subset: the smallest change that restores its balance",
    "convert": "a hierarchy to or from the folders of facebookresearch/ssl-data-curation",
    "eval": "score a backbone on benchmarks",
    "compare": "two backbones on what both were scored on, from stored predictions: paired bootstrap, McNemar",
    "rescore": "scores again from stored predictions, when only a protocol's scoring moved",
    "why": "the chain of stages, configs and commits behind a result",
    "diff": "what differs between two results: settings, code, numbers",
    "rerun": "give the command behind a result once more",
}

USAGE = """usage: strata COMMAND [setting=value ...] [flags]

{commands}

Settings are Hydra overrides: strata run experiment=quickstart ssl.steps=100 seeds=[0,1]
`strata COMMAND --help` lists a command's settings and groups, `--cfg job` prints the composed config, `-m` sweeps.
"""


def main() -> None:
    """Entry point of the console script."""
    sys.exit(dispatch(sys.argv[1:]))


def dispatch(arguments: list[str]) -> int:
    """Run one command. Returns the exit code: 0, or 2 for input that the user can mend, 1 for anything else."""
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(USAGE.format(commands="\n".join(f"  {name:<7} {what}" for name, what in COMMANDS.items())))
        return 0 if arguments else 2
    if arguments[0] == "--version":
        from importlib.metadata import version

        print(version("strata"))
        return 0
    command = arguments[0]
    if command not in COMMANDS:
        return _refuse("strata", f"no command {command!r}; use one of {', '.join(COMMANDS)}")
    os.environ["HYDRA_FULL_ERROR"] = "1"  # errors come to us whole, and we print one line of them
    os.environ["STRATA_COMMAND"] = shlex.join(["strata", *arguments])
    return _run(command, arguments[1:])


def _run(command: str, arguments: list[str]) -> int:
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    from strata.curation.errors import StrataError
    from strata.experiments.console.arguments import ordered, values_of
    from strata.experiments.console.hydra_errors import check_group_choices, explain
    from strata.experiments.console.usage import command_help

    name = f"strata {command}"
    try:
        flags, overrides = ordered(command, arguments)
        folders = values_of(flags, "--config-dir")
        if "--help" in flags:
            print(command_help(command, COMMANDS[command], folders))
            return 0
        if command == "eval":
            from strata.experiments.console.eval_arguments import expand

            overrides = expand(overrides, folders)
        check_group_choices(overrides, folders)
        sys.argv = [name, *flags, *overrides]
        importlib.import_module(f"strata.experiments.commands.{command}").main()
    except StrataError as error:
        return _refuse(name, str(error))
    except (HydraException, OmegaConfBaseException) as error:
        return _refuse(name, explain(error))
    except SystemExit as end:  # Hydra's own way out of --cfg, --info and sweeps
        return end.code if isinstance(end.code, int) else 0
    except KeyboardInterrupt:
        print(f"\n{name}: interrupted; run the same command again to go on", file=sys.stderr)
        return 130
    return 0


def _refuse(command: str, message: str) -> int:
    print(f"{command}: error: {' '.join(message.split())}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    main()
