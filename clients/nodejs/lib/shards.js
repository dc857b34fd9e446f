'use strict';
// Which of several servers has a lock: CRC-32 (IEEE) of the UTF-8 name modulo their number, as in dflock(1).

const TABLE = Uint32Array.from({ length: 256 }, (_, byte) => {
  let value = byte;
  for (let bit = 0; bit < 8; bit += 1) value = value & 1 ? (value >>> 1) ^ 0xedb88320 : value >>> 1;
  return value;
});

/** The CRC-32 of a text in UTF-8, 0 to 4294967295. */
function crc32(text) {
  let value = 0xffffffff;
  for (const byte of Buffer.from(text)) value = (value >>> 8) ^ TABLE[(value ^ byte) & 255];
  return (value ^ 0xffffffff) >>> 0;
}

module.exports = { crc32 };
