"""The files in a recovery point: a tree whose folders are read when they are opened; to this machine, or back.

Nothing is read before it is looked at, and everything is asked from threads of the gateway: a slow repository or a
damaged disk holds up a row that says "reading ...", and nothing else. A filter looks through what was opened, and Enter
lets it search all folders.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import ClassVar

from msgspec.structs import replace
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Container, Vertical
from textual.widgets import Input

from engine.hosts.model import AgentState, VmState
from engine.point_files import GetRequest
from engine.repository.model import Point
from engine.restore import PutBackPlan
from tui.actions import Place
from tui.keys import bindings_of
from tui.point_look import PointLook
from tui.screens.confirm import ConfirmScreen
from tui.screens.filtered import FilteredScreen
from tui.viewmodels.file_search import FileSearch
from tui.viewmodels.file_tree import (
    FileTree,
    Folder,
    Found,
    Node,
    command,
    fits,
    folder_of,
    get_lines,
    node_lines,
    nodes_of,
    put_back_lines,
    searched_line,
    summary_of,
    top_of,
    tree_table,
)
from tui.viewmodels.picture import Picture, VmView, find_view
from tui.viewmodels.problems import Problem, from_error, problem_lines
from tui.viewmodels.text import Line, Table, line, quiet, rule, strong
from tui.widgets.keyed_table import KeyedTable
from tui.widgets.lines_view import LinesView, PaneView

_SEARCH_FOR_S = 0.5
"""Between two looks at what a search has found."""
_OPENING = Table((), (), (line(strong("OPENING"), quiet("  asking the repository what is in it ...")),))


class FilesScreen(FilteredScreen):
    """The files in one recovery point."""

    place = Place.FILES
    CSS_PATH = "files.tcss"
    BINDINGS: ClassVar[list[BindingType]] = bindings_of(Place.FILES)

    def __init__(self, vm_uuid: str, point: Point) -> None:
        super().__init__()
        self.vm_uuid = vm_uuid
        self.point = point
        self._look: PointLook | None = None
        self._tree: FileTree | None = None
        self._problem: Problem | None = None
        self._shown_nodes: dict[str, Node] = {}
        self._asking_for = ""
        """The action that waits for an answer in the field."""

    def body(self) -> ComposeResult:
        """The tree, what is under the cursor, and the field that asks where to."""
        yield Input(id="filter", placeholder="words to look for in the names", select_on_focus=False)
        yield LinesView(id="searched")
        with Container(id="lower"):
            yield KeyedTable(id="tree")
            with Vertical(id="file-side"):
                yield LinesView(id="rule-file")
                yield PaneView(id="file")
        yield LinesView(id="asked")
        yield Input(id="where", select_on_focus=False)

    def on_mount(self) -> None:
        """Open the point."""
        super().on_mount()
        self.query_one("#where", Input).cursor_blink = False
        self.in_background(self._open(), "open")

    def on_unmount(self) -> None:
        """Close it."""
        if self._look is not None:
            self.console.gateway.close(self._look)

    async def _open(self) -> None:
        try:
            look = await self.console.gateway.look_into(self.point)
        except Exception as error:
            self._problem = from_error(error, "files", self.console.picture.now)
            self.repaint()
            return
        if not self.is_mounted:
            self.console.gateway.close(look)
            return
        self._look, self._tree = look, FileTree(look.volumes)
        self._open_first(self._tree)
        self.repaint()

    def _open_first(self, tree: FileTree) -> None:
        """Where most look first: what the guest's system starts from, or the only volume that there is."""
        readable = [node for node in top_of(tree) if node.is_folder]
        roots = [node for node in readable if node.volume.root] or readable
        if len(roots) == 1:
            self._unfold(roots[0])

    async def _read(self, node: Node, look: PointLook) -> None:
        try:
            folder = Folder(await self.console.gateway.ask(lambda: look.children(node.place)))
        except Exception as error:
            told = from_error(error, "files", self.console.picture.now)
            folder = Folder(refusal=f"! {told.what} {told.next_step}")
        self._keep(node.key, folder)
        self.repaint()

    def _keep(self, key: str, folder: Folder) -> None:
        if self._tree is not None:
            self._tree = replace(self._tree, folders={**self._tree.folders, key: folder})

    def _unfold(self, node: Node) -> None:
        if self._tree is None or self._look is None:
            return
        known = self._tree.folders.get(node.key)
        self._tree = replace(self._tree, unfolded=self._tree.unfolded | {node.key})
        if known is None or known.refusal:
            self._keep(node.key, Folder())
            self.in_background(self._read(node, self._look), f"read {node.key}")

    # ------------------------------------------------------------------ what it shows

    def main_pane(self) -> KeyedTable:
        """The tree."""
        return self.table("tree")

    @property
    def view(self) -> VmView | None:
        """The VM as it is known now."""
        return find_view(self.console.picture, self.vm_uuid)

    def crumbs(self, picture: Picture) -> str:
        """Where the operator is."""
        return f"Fleet > {self.point.manifest.vm.name} > files of {self.point.id[:8]}"

    def summary(self, picture: Picture) -> Line:
        """Of which moment they are."""
        return summary_of(self.point, self._tree, picture.now)

    def paint(self, picture: Picture) -> None:
        """The tree and what is under the cursor."""
        table = self.table("tree")
        if self._problem is not None:
            table.show(Table((), (), problem_lines(self._problem, table.size.width - 2)))
        elif self._tree is None:
            table.show(_OPENING)
        else:
            nodes = nodes_of(self._tree, self._wanted)
            self._shown_nodes = {node.key: node for node in nodes}
            table.show(tree_table(self._tree, nodes, picture.now, table.size.width, self._wanted), in_order=True)
            self.line("searched").show_line(line(" ", *searched_line(self._tree.found, self.point)))
        self.line("searched").display = bool(self._wanted and self._tree)
        self._paint_file()

    def _paint_file(self) -> None:
        pane = self.pane("file")
        self.line("rule-file").show_line(rule("", pane.size.width))
        block = node_lines(self.selected(), pane.size.width - 2)
        pane.show(tuple((*line(" "), *one) for one in block))

    def selected(self) -> Node | None:
        """What is under the cursor."""
        return self._shown_nodes.get(self.table("tree").key or "")

    def why_not(self, action: str) -> str | None:
        """What is under the cursor decides."""
        if action not in ("open", "fold", "get", "put_back", "copy_id"):
            return None
        node = self.selected()
        if node is None or (node.hint and action != "fold"):
            return "There is no file or folder under the cursor."
        if action == "open" and not node.is_folder:
            return "It is no folder; S writes it to this machine." if node.entry else node.volume.note or "No files."
        if action == "get" and node.entry is None and not node.is_folder:
            return node.volume.note or "It has no files that can be read."
        return self._why_no_put_back(node) if action == "put_back" else None

    def _why_no_put_back(self, node: Node) -> str | None:
        view = self.view
        if node.entry is None:
            return "Choose a file or folder on it; a whole volume comes back with a restore."
        if view is None or view.vm is None:
            return "No host that answers has this VM now; S writes it to this machine."
        if view.vm.state is not VmState.RUNNING:
            return f"{view.name} is {view.vm.state.value}; files go into a running guest."
        if view.vm.agent is not AgentState.CONNECTED:
            return f"The guest agent of {view.name} is not there, and files go through it."
        try:
            node.entry.path.decode()
        except UnicodeDecodeError:
            return "Its name is not UTF-8, which the agent cannot take: put back the folder that it is in."
        return None

    # ------------------------------------------------------------------ moving in the tree

    def on_keyed_table_moved(self, event: KeyedTable.Moved) -> None:
        """Show what is under the cursor."""
        self._paint_file()
        self.paint_keys()

    async def on_keyed_table_clicked(self, event: KeyedTable.Clicked) -> None:
        """A second click opens or closes."""
        await self.action_perform("open")

    def action_open(self) -> None:
        """Open the folder under the cursor, or close it."""
        node, tree = self.selected(), self._tree
        if node is None or tree is None:
            return
        if node.key in tree.unfolded and not tree.folders[node.key].refusal:
            self._tree = replace(tree, unfolded=tree.unfolded - {node.key})
        else:
            self._unfold(node)
        self.repaint()

    def action_fold(self) -> None:
        """Close the folder under the cursor; one that is closed, or a file: the folder that it is in."""
        node, tree = self.selected(), self._tree
        if node is None or tree is None:
            return
        if node.key not in tree.unfolded:
            node = self._shown_nodes.get(folder_of(node).key, node)
            self.table("tree").move_to_key(node.key)
        self._tree = replace(tree, unfolded=tree.unfolded - {node.key})
        self.repaint()

    # ------------------------------------------------------------------ searching

    def on_input_changed(self, event: Input.Changed) -> None:
        """What was found was for other words. (Textual asks the class above as well, which filters.)"""
        if event.input.id == "filter" and event.value != self._wanted and self._tree is not None:
            self._tree = replace(self._tree, found=None)

    async def _search(self, look: PointLook, tree: FileTree) -> None:
        wanted = self._wanted
        search = FileSearch(top_of(tree), wanted, look.children)
        while self.is_mounted:
            found = await self.console.gateway.ask(lambda: search.go_on(_SEARCH_FOR_S))
            if self._wanted != wanted:
                return
            self._show_found(found)
            if found.over:
                return

    def _show_found(self, found: Found) -> None:
        if self._tree is None:
            return
        first = found.fitting and not (self._tree.found and self._tree.found.fitting)
        self._tree = replace(self._tree, found=found)
        self.repaint()
        if first:
            fitting = (node.key for node in self._shown_nodes.values() if fits(node, self._wanted))
            self.table("tree").move_to_key(next(fitting, ""))

    def clear_filter(self) -> bool:
        """Take the filter away; what a search found stays under the cursor, among its neighbours."""
        node, searched = self.selected(), self._tree is not None and self._tree.found is not None
        cleared = super().clear_filter()
        if cleared and searched and node is not None and node.entry is not None and self._look is not None:
            self.in_background(self._open_way_to(node, self._look), "way")
        return cleared

    async def _open_way_to(self, node: Node, look: PointLook) -> None:
        way = [folder_of(node)]
        while way[-1].entry is not None:
            way.append(folder_of(way[-1]))
        for folder in reversed(way):
            if self._tree is None or self._tree.folders.get(folder.key, Folder()).children is None:
                await self._read(folder, look)
            self._mark_unfolded(folder)
        self.repaint()
        self.table("tree").move_to_key(node.key)

    def _mark_unfolded(self, folder: Node) -> None:
        if self._tree is not None:
            self._tree = replace(self._tree, unfolded=self._tree.unfolded | {folder.key})

    def action_go_back(self) -> None:
        """Leave the field, clear the filter, or go back."""
        if self._asking_for:
            self._close_field()
        else:
            super().action_go_back()

    # ------------------------------------------------------------------ getting them

    def action_get(self) -> None:
        """Ask for a folder of this machine."""
        node = self.selected()
        if node is not None:
            home = Path.home() / "newhope-files" / f"{self.point.manifest.vm.name}-{self.point.id[:8]}"
            self._ask("get", f"Write {node.place.text} into which folder of this machine?", str(home))

    def action_put_back(self) -> None:
        """Ask for a path in the guest."""
        node = self.selected()
        if node is not None:
            own = f"/{node.place.path.decode()}" if node.volume.root else ""
            asked = f"Put {node.place.text} back into {self.point.manifest.vm.name} as which path?"
            self._ask("put_back", asked, own)

    def _ask(self, action: str, question: str, suggested: str) -> None:
        self._asking_for = action
        self.line("asked").add_class("open")
        self.line("asked").show_line(line(" ", strong(question), quiet("  Enter shows the plan")))
        field = self.query_one("#where", Input)
        field.placeholder = "absolute path, such as /srv/data/report.txt"
        field.value = suggested
        field.add_class("open")
        field.focus()
        field.cursor_position = len(suggested)

    def _close_field(self) -> None:
        self._asking_for = ""
        self.line("asked").remove_class("open")
        self.query_one("#where", Input).remove_class("open")
        self.main_pane().focus()

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Plan it; of the filter: search. (Textual asks the class above as well, which closes the filter's field.)"""
        if event.input.id == "filter" and self._wanted.strip() and self._look is not None and self._tree is not None:
            self.in_background(self._search(self._look, self._tree), "search")
        if event.input.id != "where":
            return
        action, node, where = self._asking_for, self.selected(), event.value.strip()
        self._close_field()
        if node is None or self._look is None or not where:
            self.say("Nothing was done.")
        elif action == "get":
            folder = str(Path(where).expanduser().absolute())
            self.in_background(self._plan_get(node, self._look, folder), "plan")
        elif action == "put_back":
            self.in_background(self._plan_put_back(node, self._look, where), "plan")

    async def _plan_get(self, node: Node, look: PointLook, folder: str) -> None:
        gateway = self.console.gateway
        try:
            request = await gateway.ask(lambda: look.get_request(node.place, folder))
            free_bytes = await gateway.ask(lambda: _free_bytes(Path(folder)))
        except Exception as error:
            self.console.keep_error(error, "files")
            return
        lines = get_lines(node, str(request.destination), free_bytes, self.size.width - 4)
        self._confirm("WRITE to this machine", lines, "writes them", request)

    async def _plan_put_back(self, node: Node, look: PointLook, as_path: str) -> None:
        view = self.view
        if view is None or view.vm is None:
            return
        vm = view.vm
        self.say("Looking at what would be sent ...")
        try:
            plan = await self.console.gateway.ask(lambda: look.put_back_plan(node.place, vm, as_path))
        except Exception as error:
            self.console.keep_error(error, "files")
            self.say("It cannot be put back; ! has the reason.")
            return
        self._confirm(f"PUT BACK into {view.name}", put_back_lines(node, plan, self.size.width - 4), "sends them", plan)

    def _confirm(self, title: str, lines: tuple[Line, ...], verb: str, chosen: GetRequest | PutBackPlan) -> None:
        if self.console.screen is self:
            self.console.push_screen(
                ConfirmScreen(title, lines, verb=verb),
                lambda confirmed: self.in_background(self._launch(chosen), "launch") if confirmed else None,
            )

    async def _launch(self, chosen: GetRequest | PutBackPlan) -> None:
        gateway = self.console.gateway
        starting = gateway.launch_get(chosen) if isinstance(chosen, GetRequest) else gateway.launch_put_back(chosen)
        screen = await self.screen_of(starting, "files")
        if screen is not None and self.console.screen is self:
            self.console.push_screen(screen)

    def action_copy_id(self) -> None:
        """Copy where it is."""
        node = self.selected()
        if node is not None:
            self.offer(node.place.text)

    def action_copy_command(self) -> None:
        """Copy the command that lists it."""
        self.offer(command(self.point, self.selected()))


def _free_bytes(folder: Path) -> int | None:
    """Room where a folder is or will be; None if that cannot be asked."""
    there = next((each for each in (folder, *folder.parents) if each.is_dir()), None)
    try:
        return shutil.disk_usage(there).free if there else None
    except OSError:
        return None
