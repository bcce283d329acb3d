"""The log in files: exports partitions into a folder, and reads such a folder as a log that cannot be written.

* `format`: the manifest, the blocks and the frames of records; used by the other two.
* `writer`: copies partitions into a folder; for `fedlog export-log`.
* `log`: the folder as a log; for verification and replay far from the cluster.

Import the names from here. May import `streams.log`.
"""

from __future__ import annotations

from streams.exported.format import MANIFEST, Block, ExportDamaged, Manifest, Part
from streams.exported.log import ExportedLog
from streams.exported.writer import export

__all__ = ["MANIFEST", "Block", "ExportDamaged", "ExportedLog", "Manifest", "Part", "export"]
