"""Writes chains of digests after the user guide alone: a second hand that knows nothing of tests/fakeaws or src.

Reads sets of recipes as JSON from stdin, writes the objects and the public keys of each set as JSON to stdout.
Run by tests/verify_witness with the witness's Python, which has `cryptography`.
"""

import base64
import datetime as dt
import gzip
import hashlib
import json
import sys

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

HOUR = dt.timedelta(hours=1)
DAY = dt.timedelta(days=1)


class Key:
    """A signing key, and how CloudTrail would publish it."""

    pool = {}

    def __init__(self, private, since, until, spki=False):
        form = serialization.PublicFormat.SubjectPublicKeyInfo if spki else serialization.PublicFormat.PKCS1
        self.private = private
        self.der = private.public_key().public_bytes(serialization.Encoding.DER, form)
        self.fingerprint = hashlib.md5(self.der).hexdigest()
        self.since, self.until = since, until

    @classmethod
    def named(cls, name, since, until, spki=False):
        """Keys are made once: making one takes a while."""
        if name not in cls.pool:
            cls.pool[name] = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        return cls(cls.pool[name], since, until, spki)

    def sign(self, text, algorithm=None):
        signed = self.private.sign(text.encode(), padding.PKCS1v15(), algorithm or hashes.SHA256())
        return signed.hex()

    def shown(self, region):
        return {
            "region": region,
            "fingerprint": self.fingerprint,
            "value": base64.b64encode(self.der).decode(),
            "from": iso(self.since),
            "until": iso(self.until),
        }


def iso(time):
    return time.strftime("%Y-%m-%dT%H:%M:%SZ")


def packed(text):
    return gzip.compress(text.encode(), mtime=0)


def sha256(text):
    return hashlib.sha256(text.encode()).hexdigest()


class Chain:
    """One trail in one account and region, hour by hour."""

    def __init__(self, recipe, bucket, out):
        self.recipe, self.bucket, self.out = recipe, bucket, out
        self.start = dt.datetime.strptime(recipe["start"], "%Y-%m-%dT%H:%M:%SZ")
        self.twist = recipe["twist"] or {}
        self.objects = out["objects"]
        self.key = self.publish(recipe["region"] + "/1", self.start - 10 * DAY, self.start + 20 * DAY)
        # What the next digest says of the one before: key, hash, signature.
        self.link = None
        self.replacement = None

    def publish(self, name, since, until):
        key = Key.named(name, since, until, self.is_twist("spki"))
        self.out["keys"].append(key.shown(self.recipe["region"]))
        return key

    def is_twist(self, kind, hour=None):
        return self.twist.get("kind") == kind and hour in (None, self.twist.get("hour"))

    def folder(self, kind, time):
        recipe = self.recipe
        prefix = recipe["prefix"] + "/" if recipe["prefix"] else ""
        organization = recipe["organization"] + "/" if recipe["organization"] else ""
        day = time.strftime("%Y/%m/%d")
        return f"{prefix}AWSLogs/{organization}{recipe['account']}/{kind}/{recipe['region']}/{day}/"

    def put(self, key, text, metadata=None):
        body = base64.b64encode(packed(text)).decode()
        self.objects[key] = {"body": body, "metadata": metadata or {}}

    def log(self, hour, number):
        """A log delivered in an hour; what a digest says of it."""
        recipe = self.recipe
        time = self.start + (hour - 1) * HOUR + dt.timedelta(minutes=5 + 10 * number)
        unique = sha256(f"{recipe['trail']}/{recipe['region']}/{hour}/{number}")
        events = [{"eventVersion": "1.09", "eventTime": iso(time), "eventID": unique, "n": n} for n in range(5)]
        text = json.dumps({"Records": events})
        stamp = time.strftime("%Y%m%dT%H%MZ")
        name = f"{recipe['account']}_CloudTrail_{recipe['region']}_{stamp}_{unique[:16]}.json.gz"
        key = self.folder("CloudTrail", time) + name
        self.put(key, text)
        return {
            "s3Bucket": self.bucket,
            "s3Object": key,
            "hashValue": sha256(text),
            "hashAlgorithm": "SHA-256",
            "newestEventTime": iso(time),
            "oldestEventTime": iso(time),
        }

    def digest(self, since, until, logs, link, key=None, tail="", metadata=None, algorithm=None):
        """Puts a signed digest; what the next one says of it."""
        recipe, key = self.recipe, key or self.key
        stamp = until.strftime("%Y%m%dT%H%M%SZ")
        name = f"{recipe['account']}_CloudTrail-Digest_{recipe['region']}_{recipe['trail']}_{recipe['home']}_{stamp}"
        place = self.folder("CloudTrail-Digest", until) + name + tail + ".json.gz"
        document = {
            "awsAccountId": recipe["account"],
            "digestStartTime": iso(since),
            "digestEndTime": iso(until),
            "digestS3Bucket": self.bucket,
            "digestS3Object": place,
            "digestPublicKeyFingerprint": key.fingerprint,
            "digestSignatureAlgorithm": "SHA256withRSA",
            "newestEventTime": max((log["newestEventTime"] for log in logs), default=None),
            "oldestEventTime": min((log["oldestEventTime"] for log in logs), default=None),
            "previousDigestS3Bucket": link and self.bucket,
            "previousDigestS3Object": link and link[0],
            "previousDigestHashValue": link and link[1],
            "previousDigestHashAlgorithm": link and "SHA-256",
            "previousDigestSignature": link and link[2],
            "logFiles": logs,
        }
        text = json.dumps(document)
        previous = link[2] if link else "null"
        signed = key.sign(f"{iso(until)}\n{self.bucket}/{place}\n{sha256(text)}\n{previous}", algorithm)
        self.put(place, text, {"signature": signed, "signature-algorithm": "SHA256withRSA", **(metadata or {})})
        return place, sha256(text), signed

    def hour(self, hour):
        since, until = self.start + (hour - 1) * HOUR, self.start + hour * HOUR
        if self.is_twist("stop") and hour >= self.twist["hour"]:
            if hour == self.twist["hour"]:
                # Logging is stopped after twenty minutes of it, and started again after the next hour.
                self.digest(since, since + dt.timedelta(minutes=20), [self.log(hour, 0)], self.link)
                self.link = None
            if hour < self.twist["hour"] + 2:
                return
        if self.is_twist("rotate", hour):
            self.key = self.publish(self.recipe["region"] + "/2", since, since + 30 * DAY)
        logs = [self.log(hour, number) for number in range(0 if self.is_twist("quiet", hour) else 3)]
        link, key, algorithm = self.link, None, None
        if self.is_twist("begins", hour):
            link = None
        if self.is_twist("wrong_hash", hour):
            link = (link[0], sha256("something else"), link[2])
        if self.is_twist("bogus_algorithm", hour):
            logs[0]["hashAlgorithm"] = "MD5"
        if self.is_twist("foreign", hour):
            key = Key.named("foreign", self.start - 10 * DAY, self.start + 20 * DAY)
        if self.is_twist("weak", hour):
            algorithm = hashes.SHA1()
        if self.is_twist("replaced", hour):
            self.replacement = (since, until, logs[1:], link)
        self.link = self.digest(since, until, logs, link, key=key, algorithm=algorithm)

    def write(self):
        for hour in range(1, self.recipe["hours"] + 1):
            self.hour(hour)
        if self.replacement:
            self.digest(*self.replacement)
        if self.is_twist("backfill"):
            self.backfill(self.twist["hour"])

    def backfill(self, hour):
        """A log that came nine days late, and the digest that names it, signed with the key of that time."""
        made = self.start + 9 * DAY
        key = self.publish(self.recipe["region"] + "/late", made - DAY, made + 29 * DAY)
        since, until = self.start + (hour - 1) * HOUR, self.start + hour * HOUR
        metadata = {"backfill-generation-timestamp": made.strftime("%Y-%m-%dT%H:%M:%S.000Z")}
        self.digest(since, until, [self.log(hour, 4)], None, key=key, tail="_backfill", metadata=metadata)


def main():
    sets = []
    for wanted in json.load(sys.stdin):
        out = {"objects": {}, "keys": []}
        for recipe in wanted["recipes"]:
            Chain(recipe, wanted["bucket"], out).write()
        sets.append(out)
    json.dump(sets, sys.stdout)


main()
