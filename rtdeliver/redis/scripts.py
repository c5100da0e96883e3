"""The Lua scripts that Redis runs, which packages have as files."""

from importlib.resources import files


def read_script(package: str, *names: str) -> str:
    """Return one script, made of files in the folder ``lua`` of a package.

    :param names: of the files, without ``.lua``, in the order in which they follow each other.
    """
    folder = files(package).joinpath("lua")
    return "\n".join(folder.joinpath(f"{name}.lua").read_text("utf-8") for name in names)
