"""Events as JSON lines, for a log or another program: python examples/json_lines.py [SOURCE]

One object a line, written as soon as the event is final; `metst-edge --source SOURCE --json` prints the same. SOURCE is
a camera index, a video file or a folder of pictures; the packaged clip by default. Read them with

    python examples/json_lines.py 0 | while read -r line; do ...; done
"""

import json
import sys
from datetime import datetime, timezone
from pathlib import Path

import metst_edge
from metst_edge.errors import MetstError

DEMO = Path(metst_edge.__file__).with_name("app") / "demo_clip" / "clip.mp4"


def main(source: str) -> int:
    try:
        with metst_edge.Analyzer() as analyzer:
            for event in analyzer.stream(source):
                # to_dict() is what to_json() writes: add what your log wants.
                line = {"received": datetime.now(timezone.utc).isoformat(), **event.to_dict()}
                print(json.dumps(line), flush=True)  # a pipe would keep them back
    except KeyboardInterrupt:
        return 0
    except MetstError as error:  # whatever the SDK refuses, in one line; events found until then are out
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1] if len(sys.argv) > 1 else str(DEMO)))
