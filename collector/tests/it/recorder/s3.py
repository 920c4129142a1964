"""An S3-compatible server (moto) on 127.0.0.1:PORT with one bucket, and one user who may do no more than the upload needs. With a certificate
and its key it speaks TLS.

Says its port, and then for each line it reads what is in the bucket: {name: [versions, CRC-32 of the last]}, and how many uploads are open.
"""

import json
import os
import sys
import threading
import zlib

port, key_id, secret, *certificate = sys.argv[1:]
# Every request must be signed, and is looked at.
os.environ["INITIAL_NO_AUTH_ACTION_COUNT"] = "0"

from moto.iam.models import iam_backends
from moto.s3.models import s3_backends
from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import make_server

ACCOUNT = "123456789012"
iam, s3 = iam_backends[ACCOUNT]["aws"], s3_backends[ACCOUNT]["aws"]
bucket = s3.create_bucket("gridstep", "eu-central-1")
s3.put_bucket_versioning("gridstep", "Enabled")
iam.create_user("eu-central-1", "collector")
allowed = ["s3:PutObject", "s3:AbortMultipartUpload"]
policy = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": allowed, "Resource": "arn:aws:s3:::gridstep/*"}]}
iam.put_user_policy("collector", "upload", json.dumps(policy))
key = iam.create_access_key("collector")
key.access_key_id, key.secret_access_key = key_id, secret

backends = DomainDispatcherApplication(create_backend_app)
server = make_server("127.0.0.1", int(port), backends, threaded=True, ssl_context=tuple(certificate) or None)
threading.Thread(target=server.serve_forever, daemon=True).start()
print(server.server_port, flush=True)
for _ in sys.stdin:
    objects = {name: [len(bucket.keys.getlist(name)), zlib.crc32(last.value)] for name, last in bucket.keys.items()}
    print(json.dumps({"objects": objects, "open": len(bucket.multiparts)}), flush=True)
os._exit(0)
