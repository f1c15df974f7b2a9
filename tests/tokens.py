"""Keys and tokens for the tests of who may read what."""

import json
import time
from pathlib import Path
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ed25519, rsa

SECRET = b"a secret of thirty-two bytes or more"


class Signer:
    """One key: signs tokens, and says how they are checked."""

    def __init__(self, algorithm: str, key: Any, name: str | None) -> None:
        self.algorithm = algorithm
        self.name = name
        self._key = key

    @property
    def public(self) -> dict[str, Any]:
        """As a JWKS file has it."""
        rules = jwt.get_algorithm_by_name(self.algorithm)
        key = self._key if self.algorithm == "HS256" else self._key.public_key()
        found: dict[str, Any] = json.loads(rules.to_jwk(key))
        return found | {"alg": self.algorithm} | ({"kid": self.name} if self.name else {})

    def token(self, *channels: str, user: str = "ann", lasts_s: float = 60, **claims: Any) -> str:
        said = {"sub": user, "exp": int(time.time() + lasts_s), "channels": list(channels), **claims}
        said = {name: value for name, value in said.items() if value is not None}
        return jwt.encode(said, self._key, self.algorithm, {"kid": self.name} if self.name else None)


def secret(name: str | None = None, key: bytes = SECRET) -> Signer:
    return Signer("HS256", key, name)


def rsa_key(name: str | None = None) -> Signer:
    return Signer("RS256", rsa.generate_private_key(65_537, 2_048), name)


def edwards(name: str | None = None) -> Signer:
    return Signer("EdDSA", ed25519.Ed25519PrivateKey.generate(), name)


def keys_file(folder: Path, *signers: Signer) -> Path:
    """A JWKS file of these keys."""
    path = folder / "keys.json"
    path.write_text(json.dumps({"keys": [signer.public for signer in signers]}))
    return path
