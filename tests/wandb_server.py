"""A W&B server on loopback, for tests: takes real online runs and remembers what came.

    with WandbServer() as server:
        environment = server.environment()       # WANDB_BASE_URL and a key
        ... a run ...
        assert server.runs["my-id"].history[0]["train/loss"] == 2.5

It speaks what wandb's own process asks for during a run: GraphQL (who am I, does the
run exist, make it, files, artifacts), the file stream that carries history and summary,
and plain uploads. `fail_next = n` answers the next n pieces of the stream with 503;
`stop()` is an outage, `start()` after it its end, on the same port.
"""

import gzip
import json
import re
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from typing_extensions import Self

KEY = "0123456789abcdef" * 2 + "01234567"
ENTITY = "tester"

Json = dict[str, Any]


@dataclass
class RemoteRun:
    """What the server knows of one run."""

    project: str
    name: str = ""
    group: str = ""
    job_type: str = ""
    commit: str = ""
    tags: list[str] = field(default_factory=list[str])
    config: Json = field(default_factory=dict[str, Any])
    num_starts: int = 0
    history: list[Json] = field(default_factory=list[Json])
    summary: Json = field(default_factory=dict[str, Any])
    alerts: list[str] = field(default_factory=list[str])
    uploads: dict[str, bytes] = field(default_factory=dict[str, bytes])
    preempting: bool = False
    exit_code: int | None = None

    def settings(self) -> Json:
        """The config as the run gave it, without wandb's own entry."""
        return {name: entry["value"] for name, entry in self.config.items() if name != "_wandb"}

    def metric_definitions(self) -> list[Json]:
        """`define_metric` calls, in wandb's numbered shorthand (2: glob, 5: step metric)."""
        return self.config["_wandb"]["value"].get("m", [])


class WandbServer:
    """The server; `runs` maps a run's id to what is known of it."""

    def __init__(self) -> None:
        self.runs: dict[str, RemoteRun] = {}
        self.authorizations: set[str] = set()
        self.fail_next = 0
        self.num_refused = 0
        self.num_artifacts = 0
        self._port = 0
        self._http: ThreadingHTTPServer | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    def environment(self) -> dict[str, str]:
        """What a process needs to log here."""
        return {"WANDB_BASE_URL": self.url, "WANDB_API_KEY": KEY, "WANDB_MODE": "online"}

    def start(self) -> None:
        server = self

        class Handler(_Handler):
            known = server

        self._http = _Http(("127.0.0.1", self._port), Handler)
        self._port = self._http.server_address[1]
        threading.Thread(target=self._http.serve_forever, daemon=True).start()

    def stop(self) -> None:
        if self._http is not None:
            self._http.shutdown()
            self._http.server_close()
            self._http = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def answer(self, query: str, variables: Json) -> Json:
        """The data of a GraphQL answer."""
        found = re.search(r"(?:query|mutation)\s+(\w+)", query)
        operation = found.group(1) if found else ""
        for name, reply in _REPLIES.items():
            if name in operation or name in query:
                return reply(self, variables)
        return {}

    def stream(self, run_id: str, sent: Json) -> None:
        """Take a piece of a run's file stream."""
        run = self.runs[run_id]
        files: Json = sent.get("files") or {}
        if history := files.get("wandb-history.jsonl"):
            # The offset makes a piece that is sent twice count once.
            del run.history[history["offset"] :]
            run.history += [json.loads(line) for line in history["content"]]
        if summary := files.get("wandb-summary.json"):
            run.summary = json.loads(summary["content"][-1])
        run.preempting = run.preempting or bool(sent.get("preempting"))
        if sent.get("complete"):
            run.exit_code = sent["exitcode"]

    # GraphQL, one method per operation.

    def viewer(self, variables: Json) -> Json:
        person = {"id": "u", "entity": ENTITY, "username": ENTITY, "name": ENTITY}
        person |= {"email": "", "flags": "{}", "teams": {"edges": []}}
        return {"viewer": person, **self.features(variables)}

    def features(self, variables: Json) -> Json:
        versions = {"max_cli_version": "99.0.0"}
        return {
            "serverInfo": {
                "cliVersionInfo": versions,
                "latestLocalVersionInfo": None,
                "features": [],
                "exposesExplicitRunQueueAckPath": True,
            }
        }

    def resume_status(self, variables: Json) -> Json:
        run = self.runs.get(variables["name"])
        bucket: Json | None = None
        if run is not None:
            bucket = {
                "id": variables["name"],
                "name": variables["name"],
                "displayName": run.name,
                "historyLineCount": len(run.history),
                "eventsLineCount": 0,
                "logLineCount": 0,
                "historyTail": json.dumps([json.dumps(line) for line in run.history[-1:]]),
                "eventsTail": "[]",
                "summaryMetrics": json.dumps(run.summary),
                "config": json.dumps(run.config),
                "tags": run.tags,
                "wandbConfig": json.dumps({"t": 1}),
            }
        return {"model": {**self._project(variables.get("project")), "bucket": bucket}}

    def upsert_run(self, variables: Json) -> Json:
        run_id = variables["name"]
        run = self.runs.setdefault(run_id, RemoteRun(project=variables.get("project") or ""))
        run.num_starts += 1
        run.name = variables.get("displayName") or run.name
        run.group = variables.get("groupName") or run.group
        run.job_type = variables.get("jobType") or run.job_type
        run.commit = variables.get("commit") or run.commit
        run.tags = variables.get("tags") or run.tags
        run.config |= json.loads(variables.get("config") or "{}")
        bucket = {
            "id": run_id,
            "name": run_id,
            "displayName": run.name,
            "description": "",
            "config": json.dumps(run.config),
            "sweepName": None,
            "historyLineCount": len(run.history),
            "project": self._project(run.project),
        }
        return {"upsertBucket": {"bucket": bucket, "inserted": run.num_starts == 1}}

    def create_files(self, variables: Json) -> Json:
        run = variables["run"]
        files = [
            {"name": name, "uploadUrl": f"{self.url}/upload/{run}/{name}"}
            for name in variables["files"]
        ]
        return {"createRunFiles": {"runID": run, "uploadHeaders": [], "files": files}}

    def alert(self, variables: Json) -> Json:
        for run in self.runs.values():
            run.alerts.append(variables["title"])
        return {"notifyScriptableRunAlert": {"success": True}}

    def create_artifact(self, variables: Json) -> Json:
        self.num_artifacts += 1
        artifact: Json = {"id": f"artifact-{self.num_artifacts}", "state": "PENDING"}
        artifact["artifactSequence"] = {"latestArtifact": None}
        return {"createArtifact": {"artifact": artifact}}

    def create_manifest(self, variables: Json) -> Json:
        url = f"{self.url}/upload/{variables['artifactID']}/manifest.json"
        file = {"id": "manifest-file", "uploadUrl": url, "uploadHeaders": []}
        return {"createArtifactManifest": {"artifactManifest": {"id": "manifest", "file": file}}}

    def create_artifact_files(self, variables: Json) -> Json:
        edges: list[Json] = []
        for file in variables["input"]["artifactFiles"]:
            path = f"{file['artifactID']}/{file['name']}"
            node = {"storagePath": path, "uploadUrl": f"{self.url}/upload/{path}"}
            node |= {"uploadHeaders": [], "uploadMultipartUrls": None}
            edges.append({"node": {**node, "artifact": {"id": file["artifactID"]}}})
        return {"createArtifactFiles": {"files": {"edges": edges}}}

    def commit_artifact(self, variables: Json) -> Json:
        return {"commitArtifact": {"artifact": {"id": variables["artifactID"], "digest": ""}}}

    def _project(self, name: str | None) -> Json:
        return {"id": "p", "name": name or "", "entity": {"id": "e", "name": ENTITY}}


_REPLIES = {
    "Viewer": WandbServer.viewer,
    "ServerInfo": WandbServer.features,
    "ServerFeatures": WandbServer.features,
    "RunResumeStatus": WandbServer.resume_status,
    "upsertBucket": WandbServer.upsert_run,
    "query ArtifactType": lambda server, variables: {"project": {"artifact": None}},
    "CreateArtifactManifest": WandbServer.create_manifest,
    "CreateArtifactFiles": WandbServer.create_artifact_files,
    "CommitArtifact": WandbServer.commit_artifact,
    "mutation CreateArtifact ": WandbServer.create_artifact,
    "createRunFiles": WandbServer.create_files,
    "notifyScriptableRunAlert": WandbServer.alert,
}


class _Http(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that is killed while it talks is no error here."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    known: WandbServer

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_POST(self) -> None:
        body = self._body()
        self.known.authorizations.add(self.headers.get("Authorization", ""))
        if self.path.endswith("/graphql"):
            asked = json.loads(body)
            self._reply({"data": self.known.answer(asked["query"], asked.get("variables") or {})})
        elif self.path.endswith("/file_stream"):
            if self.known.fail_next > 0:
                self.known.fail_next -= 1
                self.known.num_refused += 1
                self._reply({"error": "busy"}, status=503)
                return
            self.known.stream(self.path.split("/")[-2], json.loads(body))
            self._reply({"exitcode": None, "limits": {}})
        else:
            self._reply({})

    def do_PUT(self) -> None:
        body = self._body()
        _, kind, run, name = self.path.split("/", 3)
        if kind == "upload" and run in self.known.runs:
            self.known.runs[run].uploads[name] = body
        self._reply({})

    def do_GET(self) -> None:
        self._reply({})

    def _body(self) -> bytes:
        body = b""
        if self.headers.get("Transfer-Encoding") == "chunked":
            while size := int(self.rfile.readline().strip() or b"0", 16):
                body += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
        else:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        return gzip.decompress(body) if self.headers.get("Content-Encoding") == "gzip" else body

    def _reply(self, content: Json, status: int = 200) -> None:
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
