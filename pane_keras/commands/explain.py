"""`pane-keras explain`: a user's own model, explained on pictures."""

from pane_keras.commands.class_names import class_names, named
from pane_keras.commands.console import Console
from pane_keras.commands.explained import explained
from pane_keras.commands.output import SELF_CHECK_FAILED, OutputFolder, map_facts, said_check, write_maps
from pane_keras.commands.preprocessing import Preprocessing, picture_input
from pane_keras.errors import LoadError
from pane_keras.loading import load_model
from pane_keras.picture_files import picture_files
from pane_keras.pictures import read_picture, refuse_channels
from pane_keras.wrapping import wrap


def run(arguments):
    """Explains each picture and writes a figure for it.

    Args:
        arguments: The parsed arguments of the command.

    Returns:
        The exit code: 0, or SELF_CHECK_FAILED.
    """
    with Console(arguments.json) as console:
        pane = wrap(load_model(arguments.model))
        task = _Task(pane, console, arguments)
        files = picture_files(arguments.images)
        task.refuse_unreadable(files)
        console.say(f"{pane.model.name} ({pane.model.count_params():,} parameters, {arguments.model})")
        console.say(f"pixels: {task.preprocessing.said}")
        found = [task.explain(file.path, picture) for file, picture in task.read(console.progress(files, "picture"))]
        if not found:
            raise LoadError(f"None of the {len(files)} pictures can be read.")
        model = {"name": pane.model.name, "parameters": pane.model.count_params(), "from": arguments.model}
        console.finish("explain", model=model, pixels=task.preprocessing.said, pictures=found, skipped=task.skipped)
        return 0 if all(picture["self_check"]["ok"] for picture in found) else SELF_CHECK_FAILED


class _Task:
    """What all pictures of a run share."""

    def __init__(self, pane, console, arguments):
        self._pane, self._console, self._arguments = pane, console, arguments
        self._names = class_names(arguments)
        self._input = picture_input(pane)
        refuse_channels(self._input.channels)
        self.preprocessing = Preprocessing(pane, self._input.channels, arguments)
        self._folder = None
        self.skipped = []

    def refuse_unreadable(self, files):
        """A file that was named is missed at once, and not after an hour of pictures."""
        for file in files:
            if file.named:
                self._picture(file)

    def read(self, files):
        """Yields (file, picture), one in memory at a time; what else lay in a folder is skipped and said."""
        for file in files:
            try:
                picture = self._picture(file)
            except LoadError as error:
                if file.named:
                    raise
                self.skipped.append({"file": file.path, "reason": str(error)})
                self._console.notice(f"skipped: {error}")
                continue
            yield file, picture

    def explain(self, path, picture):
        """Explains a picture, writes what was asked for, and returns what JSON says of it."""
        console, arguments = self._console, self._arguments
        console.say(f"\n{path.name}{''.join(f', {notice}' for notice in picture.notices)}")
        trace = self._pane.trace(self._input.batch(self.preprocessing(picture.pixels)))
        found = explained(trace, arguments, self._names)
        self._say_found(found)
        diagnosis = None if found.maps.asker is None else found.maps.diagnose()
        written = self._write(path, picture, found, diagnosis)
        report = trace.check()
        said_check(console, report)
        for file in filter(None, written.values()):
            console.say(f"  written: {file}")
        top = found.top and [{"class": k, **self._named(k), "logit": value} for k, value in found.top]
        facts = {"explained": found.facts, "top": top, **map_facts(found.maps, diagnosis, report)}
        return {"file": path, "changes": picture.notices, **facts, **written}

    def _picture(self, file):
        return read_picture(file.path, self._input.channels, self._input.size)

    def _named(self, k):
        return {"name": self._names[k]} if self._names and k < len(self._names) else {}

    def _say_found(self, found):
        if found.top:
            highest = ", ".join(f"{named(k, self._names)} {value:.3g}" for k, value in found.top)
            self._console.say(f"  highest logits: {highest}")
        if found.remark:
            self._console.say(f"  {found.remark}")
        self._console.say(f"  explained: {found.words}")

    def _write(self, path, picture, found, diagnosis):
        self._folder = self._folder or OutputFolder(self._arguments.out)
        note = diagnosis and str(diagnosis)
        if note:
            self._console.say(f"  {note}")
        title, axis = f"{path.name}: {found.words}", -1 if self._input.axis is None else self._input.axis
        file = self._folder.file(path.stem)
        return write_maps(found.maps, picture.pixels, title, file, self._arguments, channel_axis=axis, note=note)
