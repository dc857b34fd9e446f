'use strict';
// Which of several servers has a lock: CRC-32 (IEEE) of the UTF-8 name modulo their number, as in dflock(1).

function shardOf(name, count) {
  return crc32(name) % count;
}

function crc32(text) {
  let sum = ~0;
  for (const byte of Buffer.from(text)) {
    sum ^= byte;
    for (let bit = 0; bit < 8; bit += 1) sum = (sum >>> 1) ^ (sum & 1 ? 0xedb88320 : 0);
  }
  return ~sum >>> 0;
}

module.exports = { shardOf, crc32 };
