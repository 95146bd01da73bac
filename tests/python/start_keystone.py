"""Keystone, the real one, in one process over SQLite: `start_keystone.py PORT SWIFT_PORT`, run in a folder of its own, which has
`passwords.json`. It listens once it has a catalog that names Swift, and in two domains a user with a project."""

import json
import os
import sys
from socketserver import ThreadingMixIn
from uuid import uuid4
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from cryptography.fernet import Fernet
from keystone import server
from keystone.cmd.bootstrap import Bootstrapper
from keystone.common.provider_api import ProviderAPIs as PROVIDERS
from keystone.common.sql import upgrades
from keystone.server.wsgi import initialize_public_application

REGION = "r1"
# A test's password needs no slow hash.
CONFIGURATION = """[DEFAULT]
default_log_levels = alembic=WARNING,keystone=ERROR
[database]
connection = sqlite:///{folder}/keystone.db
[fernet_tokens]
key_repository = {folder}/keys
[fernet_receipts]
key_repository = {folder}/keys
[credential]
key_repository = {folder}/keys
[identity]
password_hash_rounds = 4
[cache]
enabled = false
"""


def configure(folder):
    os.mkdir("keys", 0o700)
    for name in ("0", "1"):
        with open(f"keys/{name}", "wb") as file:
            file.write(Fernet.generate_key())
    with open("keystone.conf", "w") as file:
        file.write(CONFIGURATION.format(folder=folder))


def bootstrap(port, swift, passwords):
    """What `keystone-manage db_sync` and `bootstrap` do, and what an administrator does then."""
    server.configure(config_files=["keystone.conf"])
    upgrades.offline_sync_database_to_version()
    it = Bootstrapper()
    it.admin_username, it.admin_password = "admin", passwords["admin"]
    it.project_name, it.admin_role_name, it.service_name = "admin", "admin", "keystone"
    it.region_id, it.public_url = REGION, f"http://127.0.0.1:{port}/v3"
    it.bootstrap()
    store = {"id": uuid4().hex, "name": "swift", "type": "object-store", "enabled": True}
    PROVIDERS.catalog_api.create_service(store["id"], store)
    url = f"http://127.0.0.1:{swift}/v1/AUTH_$(project_id)s"
    endpoint = {"id": uuid4().hex, "service_id": store["id"], "interface": "public", "region_id": REGION, "url": url}
    PROVIDERS.catalog_api.create_endpoint(endpoint["id"], {**endpoint, "enabled": True})
    PROVIDERS.resource_api.create_domain("elsewhere", {"id": "elsewhere", "name": "elsewhere", "enabled": True})
    for domain, name in (("default", "tester"), ("elsewhere", "stranger")):
        user = {"name": name, "password": passwords["user"], "domain_id": domain, "enabled": True}
        user = PROVIDERS.identity_api.create_user(user)
        project = {"id": uuid4().hex, "name": "backups", "domain_id": domain, "parent_id": domain}
        PROVIDERS.resource_api.create_project(project["id"], {**project, "enabled": True, "is_domain": False})
        PROVIDERS.assignment_api.add_role_to_user_and_project(user["id"], project["id"], it.member_role_id)


class Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True


class Handler(WSGIRequestHandler):
    def log_message(self, *_):
        """Nothing of what goes well."""


def main():
    port, swift = int(sys.argv[1]), int(sys.argv[2])
    # Keystone would read them as its own.
    del sys.argv[1:]
    # Started again, it has all of it.
    if not os.path.exists("ready"):
        configure(os.getcwd())
        with open("passwords.json") as file:
            passwords = json.load(file)
        # In a process of its own: what has made a database can't serve any more.
        child = os.fork()
        if child == 0:
            bootstrap(port, swift, passwords)
            os._exit(0)
        if os.waitpid(child, 0)[1] != 0:
            sys.exit("the database was not made")
        open("ready", "w").close()
    os.environ["OS_KEYSTONE_CONFIG_FILES"] = "keystone.conf"
    make_server("127.0.0.1", port, initialize_public_application(), Server, Handler).serve_forever()


main()
