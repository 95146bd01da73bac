"""Swift, the real one, with one copy of everything: account, container and object server and two proxies as green threads of one
process. One proxy's users are tempauth's (test:tester, test:reader), the other's Keystone's. `start_swift.py` and the ports of
the five, in that order, of memcached and of Keystone; run in a folder of its own, which has `passwords.json`."""

import json
import logging
import os
import sys
import warnings

warnings.filterwarnings("ignore")
from swift.common import utils

FOLDER = os.getcwd()
utils.SWIFT_CONF_FILE = FOLDER + "/etc/swift.conf"
utils.eventlet_monkey_patch()

import eventlet
from eventlet import wsgi
from swift.common.ring import RingBuilder
from swift.common.wsgi import SwiftHttpProtocol, loadapp

HASHES = """[swift-hash]
swift_hash_path_prefix = before
swift_hash_path_suffix = after
[storage-policy:0]
name = only
default = yes
"""
# A busy machine is slow, not broken: nothing is given up early, and an object is listed before its put is answered.
SERVER = """[DEFAULT]
swift_dir = {folder}/etc
devices = {folder}/devices
mount_check = false
bind_ip = 127.0.0.1
bind_port = {port}
workers = 0
disable_fallocate = true
fsync_dirs = false
log_level = WARNING
log_address = {folder}/none
log_custom_handlers = start_swift.log
[pipeline:main]
pipeline = {pipeline}
[app:{app}]
use = egg:swift#{egg}
node_timeout = 60
conn_timeout = 20
container_update_timeout = 60
"""
PROXY = """recoverable_node_timeout = 60
error_suppression_interval = 0
account_autocreate = true
[filter:cache]
use = egg:swift#memcache
memcache_servers = 127.0.0.1:{memcached}
[filter:tempauth]
use = egg:swift#tempauth
user_test_tester = {user} .admin
user_test_reader = {user}
[filter:authtoken]
paste.filter_factory = keystonemiddleware.auth_token:filter_factory
www_authenticate_uri = http://127.0.0.1:{auth}/v3
auth_url = http://127.0.0.1:{auth}/v3
auth_type = password
interface = public
username = admin
password = {admin}
project_name = admin
user_domain_name = Default
project_domain_name = Default
token_cache_time = 60
[filter:keystoneauth]
use = egg:swift#keystoneauth
operator_roles = admin, member
"""
PIPELINE = (
    "catch_errors gatekeeper healthcheck {users} listing_formats copy container_quotas slo dlo versioned_writes symlink"
    " proxy-server"
)
FILTERS = "catch_errors gatekeeper healthcheck listing_formats copy container_quotas slo dlo symlink versioned_writes".split()
VERSIONED_WRITES = "allow_versioned_writes = true\nallow_object_versioning = true\n"
# By the name of a proxy, who lets its users in. Keystone's doesn't remember how full a container is.
PROXIES = {"tempauth": "cache tempauth", "keystone": "authtoken keystoneauth"}
SERVERS = ("account", "container", "object")


def log(_conf, _name, _console, _route, form, logger, _adapted):
    """Errors go where the output goes; there is no syslog."""
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter(form or "%(message)s"))
    logger.addHandler(handler)


def write(name, text):
    with open(f"etc/{name}", "w") as file:
        file.write(text)


def configure(ports, passwords):
    for folder in ("etc", "devices/disk"):
        os.makedirs(folder, exist_ok=True)
    write("swift.conf", HASHES)
    for name in SERVERS:
        app, port = name + "-server", ports[name]
        write(name + ".conf", SERVER.format(folder=FOLDER, port=port, pipeline=app, app=app, egg=name))
        builder = RingBuilder(4, 1, 0)
        where = {"ip": "127.0.0.1", "port": port, "replication_ip": "127.0.0.1", "replication_port": port, "device": "disk"}
        builder.add_dev({"id": 0, "region": 1, "zone": 1, "weight": 1.0, "meta": "", **where})
        builder.rebalance()
        builder.get_ring().save(f"etc/{name}.ring.gz")
    filters = "".join(f"[filter:{name}]\nuse = egg:swift#{name}\n" for name in FILTERS)
    for name, users in PROXIES.items():
        pipeline = PIPELINE.format(users=users)
        text = SERVER.format(folder=FOLDER, port=ports[name], pipeline=pipeline, app="proxy-server", egg="proxy")
        write(name + ".conf", text + PROXY.format(**{**passwords, **ports}) + filters + VERSIONED_WRITES)


def check_attributes():
    try:
        os.setxattr("devices/disk", "user.swift", b"")
    except OSError as error:
        sys.exit(f"{FOLDER} is on a file system without extended attributes, in which Swift keeps what it knows: {error}")


def main():
    os.umask(0o077)
    names = (*SERVERS, *PROXIES, "memcached", "auth")
    ports = dict(zip(names, map(int, sys.argv[1:]), strict=True))
    with open("passwords.json") as file:
        configure(ports, json.load(file))
    check_attributes()
    running = []
    for name in (*SERVERS, *PROXIES):
        listening = eventlet.listen(("127.0.0.1", ports[name]), backlog=1024)
        app = loadapp(f"{FOLDER}/etc/{name}.conf", global_conf={"log_name": name})
        options = {"protocol": SwiftHttpProtocol, "capitalize_response_headers": False, "log_output": False, "max_size": 1024}
        running.append(eventlet.spawn(wsgi.server, listening, app, **options))
    for server in running:
        server.wait()


# By this name Swift finds `log`.
sys.modules["start_swift"] = sys.modules["__main__"]
main()
