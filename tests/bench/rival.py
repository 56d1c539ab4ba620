"""What anybody can write: python-isal and azure-storage-blob, two processes, chunks that end at a newline.

    rival.py CONTAINER_URL_WITH_SAS FOLDER [--raw] [--processes 2] [--chunk-mb 900]
"""

import argparse
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from azure.storage.blob import BlobBlock, ContainerClient
from isal import isal_zlib

READ_BYTES, BLOCK_BYTES = 1 << 20, 8 << 20


def upload(url, path, chunk_bytes, raw):
    container = ContainerClient.from_container_url(url)
    chunk, rest, read = 0, b"", True
    with open(path, "rb", buffering=0) as file:
        while read:
            blob = container.get_blob_client(f"{path.name}.{chunk}{'' if raw else '.gz'}")
            packer = isal_zlib.compressobj(1, isal_zlib.DEFLATED, 31)
            blocks, waiting, taken = [], [], 0
            while read and taken < chunk_bytes:
                read = file.read(READ_BYTES)
                data = memoryview(rest + read if rest else read)
                cut = read.rfind(b"\n") + 1 + len(rest) if read else len(data)
                taken, rest = taken + cut, bytes(data[cut:])
                waiting.append(data[:cut] if raw else packer.compress(data[:cut]))
                if not raw and (not read or taken >= chunk_bytes):
                    waiting.append(packer.flush())
                if sum(map(len, waiting)) >= BLOCK_BYTES or not read or taken >= chunk_bytes:
                    blocks.append(BlobBlock(f"{len(blocks):08}"))
                    blob.stage_block(blocks[-1].id, b"".join(waiting))
                    waiting.clear()
            blob.commit_block_list(blocks)
            chunk += 1


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("url")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--raw", action="store_true")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--chunk-mb", type=int, default=900)
    given = parser.parse_args()
    with ProcessPoolExecutor(given.processes) as pool:
        files = sorted(path for path in given.folder.iterdir() if path.is_file())
        jobs = [pool.submit(upload, given.url, path, given.chunk_mb * 10**6, given.raw) for path in files]
        [job.result() for job in jobs]
