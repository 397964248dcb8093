"""Launch the app: `python app.py [MODEL ...]`, `python app.py --help`. What it shows is in app/page.py."""

import sys

from app.server.arguments import take
from app.server.environment import prepare
from ptq4dit.quiet import quiet
from ptq4dit.storage.memory import share_heaps


def main() -> None:
    """Serve the page, then load torch and the first model behind it."""
    take(sys.argv[1:])
    quiet()
    share_heaps()
    prepare()
    from app.page import build  # with gradio, which reads the environment as it is imported
    from app.server.launch import serve
    from app.services.warmup import warm_up_later

    serve(build(), once_up=warm_up_later)


if __name__ == "__main__":
    main()
