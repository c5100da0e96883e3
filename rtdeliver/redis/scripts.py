"""How a package reads its Lua scripts, which Redis runs."""

from importlib.resources import files


def read_script(package: str, *names: str) -> str:
    """Return one script, joined from files in the folder ``lua`` of a package.

    :param names: the names of the files, without ``.lua``, in the order of the script.
    """
    folder = files(package).joinpath("lua")
    return "\n".join(folder.joinpath(f"{name}.lua").read_text("utf-8") for name in names)
