"""What a network does to a client's connections."""

from scheduler.store.client import Client, ClusterClient


async def cut(client: Client) -> None:
    """Close every connection of the client; its next command connects anew."""
    if isinstance(client, ClusterClient):
        await client.nodes_manager.aclose()
    else:
        await client.connection_pool.disconnect()
