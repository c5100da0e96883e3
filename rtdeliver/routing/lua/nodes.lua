-- Reads the state of every node. `common.lua` lists the keys.
--
-- ARGV[1]  prefix
--
-- Returns for each node:
--   {name, viewers, url, incarnation, topics, milliseconds until its lease ends}
-- A dead node has an empty url.

local prefix, answer = ARGV[1], {}
for i, name in ipairs(redis.call('SMEMBERS', prefix .. 'nodes')) do
  local node_key = prefix .. 'node:' .. name
  local node = redis.call('HMGET', node_key, 'url', 'incarnation', 'viewers')
  answer[i] = {name, node[3] or '0', node[1] or '', node[2] or '',
    redis.call('SCARD', prefix .. 'topics:' .. name), redis.call('PTTL', node_key)}
end
return answer
