"""The main job as a control plane in another language does it: commands, replies and events over RabbitMQ, the
history over HTTP. Written from docs/asyncapi.yaml and docs/openapi.yaml alone. Usage: main_job.py AMQP HTTP"""

import json
import sys
import urllib.request
import uuid

import pika

amqp, http = sys.argv[1:]
connection = pika.BlockingConnection(pika.URLParameters(amqp))
channel = connection.channel()
channel.confirm_delivery()
replies = channel.queue_declare("", exclusive=True).method.queue
events = channel.queue_declare("", exclusive=True).method.queue
channel.queue_bind(events, "longshore.events", "#")


def ask(kind, body):
    """Publishes a command and returns the reply that carries its correlation id."""
    correlation = str(uuid.uuid4())
    properties = pika.BasicProperties(
        content_type="application/json", message_id=str(uuid.uuid4()), reply_to=replies, correlation_id=correlation, delivery_mode=2
    )
    channel.basic_publish("longshore.commands", kind, json.dumps(body), properties, mandatory=True)
    for method, header, text in channel.consume(replies, inactivity_timeout=60):
        assert method is not None, "no reply"
        channel.basic_ack(method.delivery_tag)
        if header.correlation_id == correlation:
            channel.cancel()
            return json.loads(text)


def follow(operation, state):
    """Waits for the event that says that the operation is in that state; returns its data."""
    seen = []
    for method, header, text in channel.consume(events, inactivity_timeout=120):
        assert method is not None, f"no event after {seen}"
        channel.basic_ack(method.delivery_tag)
        if method.routing_key.endswith(".progress"):
            continue
        event = json.loads(text)
        assert event["specversion"] == "1.0" and event["type"].startswith("io.longshore.operation."), event
        if event["subject"] != operation:
            continue
        data = event["data"]
        if (data["seq"], data["to"]) in seen:
            continue  # at least once, says the contract
        seen.append((data["seq"], data["to"]))
        assert seen == sorted(seen) and len(seen) == len({seq for seq, _ in seen}), f"out of order: {seen}"
        assert data["to"] != "failed", data["fault"]
        if data["to"] == state:
            channel.cancel()
            return data


reply = ask("backup-snapshot", {"zone": "z1", "pool": "fast", "volume": "disk", "format": "qcow2", "store": "main"})
assert reply["accepted"] and reply["state"] == "allocated", reply
backup = reply["operation"]
data = follow(backup, "ready")
assert data["object"]["virtual_size"] == 8 << 20, data

reply = ask("create-volume", {"zone": "z1", "from": backup, "pool": "fast", "volume": "new"})
assert reply["accepted"], reply
follow(reply["operation"], "ready")

refused = ask("create-volume", {"zone": "z1", "from": backup, "pool": "nowhere", "volume": "new"})
assert refused["accepted"] is False and refused["fault"]["code"] == "pool.unknown", refused

with urllib.request.urlopen(f"{http}/api/operations/{backup}/history") as answer:
    history = json.load(answer)["history"]
assert [row["seq"] for row in history] == list(range(1, len(history) + 1)), history
assert history[0]["event"]["event"] == "accepted" and history[-1]["to"] == "ready", history
print(f"{len(history)} events")
connection.close()
