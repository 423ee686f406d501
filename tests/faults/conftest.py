from tests.repository.conftest import bucket, moto, s3_keys

__all__ = ["bucket", "moto", "s3_keys"]
