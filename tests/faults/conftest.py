from tests.repository.conftest import bucket, cheap_passphrases, moto, s3_keys

__all__ = ["bucket", "cheap_passphrases", "moto", "s3_keys"]
