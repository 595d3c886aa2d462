"""The order service for any ASGI server: `uvicorn orderstream.asgi:app --port 8001`.

Settings come from where the command has them: the environment, `.env`, a preset. The address to
listen on is the server's.
"""

from orderstream.cli import settings
from orderstream.wiring.asgi import OrderService

app = OrderService(settings.load_resolved)
