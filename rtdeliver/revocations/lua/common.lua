-- The first part of every script that reads or changes revocations.
--
-- Keys of revocations; each begins with the prefix. A revocation is named KIND:NAME.
--
--   revocations:store   hash: name, drawn when the store was begun; last, the number of the last entry
--   revocations:texts   hash: what was revoked, in JSON, by its name
--   revocations:times   hash: when that was, in milliseconds since the epoch, by its name
--   revocations:order   sorted set: the names by the numbers of their entries
--   revocations:ends    sorted set: the names by the times at which they end
--
-- ARGV[1]  prefix
-- ARGV[2]  a name for the store, if it is begun now

local prefix = ARGV[1]
local store_key, texts_key = prefix .. 'revocations:store', prefix .. 'revocations:texts'
local times_key, order_key = prefix .. 'revocations:times', prefix .. 'revocations:order'
local ends_key = prefix .. 'revocations:ends'
local now = redis.call('TIME')
now = now[1] * 1000 + math.floor(now[2] / 1000)

redis.call('HSETNX', store_key, 'name', ARGV[2])

local function forget(name)
  redis.call('HDEL', texts_key, name)
  redis.call('HDEL', times_key, name)
  redis.call('ZREM', order_key, name)
  redis.call('ZREM', ends_key, name)
end

for _, name in ipairs(
  redis.call('ZRANGEBYSCORE', ends_key, '-inf', string.format('%.0f', now), 'LIMIT', 0, 500)
) do
  forget(name)
end
