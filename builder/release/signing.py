"""Signatures with an EC key: model-signing over the artifact, and a DSSE envelope over the provenance.

https://github.com/sigstore/model-transparency and https://github.com/secure-systems-lab/dsse.
"""

from __future__ import annotations

import base64
import binascii
import json
from pathlib import Path
from typing import TYPE_CHECKING

from builder.errors import ConfigurationError, UnfitEnvironmentError, VerificationError
from builder.release.provenance import FILE_NAME as PROVENANCE
from builder.util.install import extra
from builder.util.reading import read_json, read_regular

if TYPE_CHECKING:
    from types import ModuleType

    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey, EllipticCurvePublicKey
    from cryptography.hazmat.primitives.hashes import HashAlgorithm

FOLDER = "signatures"
ARTIFACT_SIGNATURE = f"{FOLDER}/artifact.sig"
ENVELOPE = f"{FOLDER}/provenance.dsse.json"
PAYLOAD_TYPE = "application/vnd.in-toto+json"
_MOST_KEY = 1 << 20
"""Bytes of a key file; an EC key in PEM has hundreds."""
_MOST_SIGNATURES = 64
"""Signatures of one envelope: each costs time to check."""


def read_private_key(path: Path) -> EllipticCurvePrivateKey:
    """Return the EC private key in a PEM file; raises ConfigurationError when it is none."""
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        key = load_pem_private_key(read_regular(path, most=_MOST_KEY), password=None)
    except OSError as error:
        raise ConfigurationError(
            f"the key {path} cannot be read: {error.strerror}", code="B0269", key="release.sign_key"
        ) from error
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise ConfigurationError(
            f"{path} holds no private key without a password: {error}",
            code="B0269",
            hint="openssl ecparam -name prime256v1 -genkey -noout -out key.pem",
            key="release.sign_key",
        ) from error
    if not isinstance(key, EllipticCurvePrivateKey):
        raise ConfigurationError(f"{path} is not an elliptic-curve key", code="B0269", key="release.sign_key")
    return key


def require_signing() -> None:
    """Raise UnfitEnvironmentError unless model-signing is installed: before anything is built."""
    _model_signing()


def sign(release: Path, artifact: str, key_file: Path) -> None:
    """Write both signatures into `release`, whose provenance is written already."""
    key = read_private_key(key_file)
    (release / FOLDER).mkdir()
    signing, _ = _model_signing()
    config = signing.Config().use_elliptic_key_signer(private_key=key_file)
    config.sign(release / artifact, release / ARTIFACT_SIGNATURE)
    payload = (release / PROVENANCE).read_bytes()
    envelope = {
        "payloadType": PAYLOAD_TYPE,
        "payload": base64.b64encode(payload).decode(),
        "signatures": [{"keyid": key_id(key.public_key()), "sig": base64.b64encode(_sign(key, payload)).decode()}],
    }
    (release / ENVELOPE).write_text(json.dumps(envelope, indent=2) + "\n", encoding="utf-8")


def check_signatures(release: Path, artifact: str, public_key: Path) -> None:
    """Raise VerificationError, naming the file, unless both signatures are of `public_key`."""
    key = _read_public_key(public_key)
    for name in (ARTIFACT_SIGNATURE, ENVELOPE):
        if not (release / name).is_file():
            raise VerificationError(f"the release is not signed: it has no {name}", code="B0609")
    _check_envelope(release, key, public_key)
    _, verifying = _model_signing()
    config = verifying.Config().use_elliptic_key_verifier(public_key=public_key)
    try:
        read_json(release / ARTIFACT_SIGNATURE)
        config.verify(release / artifact, release / ARTIFACT_SIGNATURE)
    except Exception as error:  # model-signing raises ValueError, and what its parsers raise on damaged bundles
        raise VerificationError(
            f"{ARTIFACT_SIGNATURE} is not a signature of {public_key} over {artifact}: {error}", code="B0609"
        ) from error


def _check_envelope(release: Path, key: EllipticCurvePublicKey, public_key: Path) -> None:
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ec import ECDSA

    try:
        envelope = read_json(release / ENVELOPE)
        payload = base64.b64decode(envelope["payload"], validate=True)
        signatures = [base64.b64decode(entry["sig"], validate=True) for entry in envelope["signatures"]]
        payload_type = envelope["payloadType"]
        signed = read_regular(release / PROVENANCE)
    except (OSError, ValueError, KeyError, TypeError, binascii.Error) as error:
        raise VerificationError(f"{ENVELOPE} is not a DSSE envelope: {error}", code="B0609") from error
    if payload_type != PAYLOAD_TYPE or payload != signed:
        raise VerificationError(f"{PROVENANCE} is not what {ENVELOPE} signs", code="B0609")
    if len(signatures) > _MOST_SIGNATURES:
        raise VerificationError(
            f"{ENVELOPE} has {len(signatures)} signatures, of which {_MOST_SIGNATURES} may be", code="B0609"
        )
    for signature in signatures:
        try:
            key.verify(signature, _pre_authentication(PAYLOAD_TYPE, payload), ECDSA(_hash(key)))
            break
        except InvalidSignature:
            continue
    else:
        raise VerificationError(f"{ENVELOPE} has no signature of {public_key}", code="B0609")


def key_id(public_key: EllipticCurvePublicKey) -> str:
    """SHA-256 over the key in DER, in hexadecimal."""
    import hashlib

    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    return hashlib.sha256(public_key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).hexdigest()


def _read_public_key(path: Path) -> EllipticCurvePublicKey:
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    try:
        key = load_pem_public_key(read_regular(path, most=_MOST_KEY))
    except OSError as error:
        raise ConfigurationError(f"the key {path} cannot be read: {error.strerror}", code="B0269") from error
    except (ValueError, UnsupportedAlgorithm) as error:
        raise ConfigurationError(f"{path} holds no public key: {error}", code="B0269") from error
    if not isinstance(key, EllipticCurvePublicKey):
        raise ConfigurationError(f"{path} is not an elliptic-curve key", code="B0269")
    return key


def _sign(key: EllipticCurvePrivateKey, payload: bytes) -> bytes:
    from cryptography.hazmat.primitives.asymmetric.ec import ECDSA

    signature: bytes = key.sign(_pre_authentication(PAYLOAD_TYPE, payload), ECDSA(_hash(key)))
    return signature


def _hash(key: EllipticCurvePrivateKey | EllipticCurvePublicKey) -> HashAlgorithm:
    """The digest that goes with a curve: as long as its numbers, as model-signing chooses it."""
    from cryptography.hazmat.primitives import hashes

    return {256: hashes.SHA256(), 384: hashes.SHA384(), 521: hashes.SHA512()}.get(key.key_size, hashes.SHA256())


def _pre_authentication(payload_type: str, payload: bytes) -> bytes:
    """DSSE's pre-authentication encoding, version 1: what is signed in place of the payload alone."""
    kind = payload_type.encode()
    return b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)


def _model_signing() -> tuple[ModuleType, ModuleType]:
    try:
        from model_signing import signing, verifying
    except ImportError as error:
        raise UnfitEnvironmentError(
            f"signatures need model-signing, which cannot be imported: {error}",
            code="B0701",
            hint=extra("sign"),
        ) from error
    return signing, verifying
