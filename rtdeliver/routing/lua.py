"""The transactions of the routing table, as Redis runs them.

Keys, all with a prefix:

    row:TOPIC    hash: node -> viewers
    node:NODE    hash: url, incarnation, sequence, known, viewers; expires with the node's lease
    topics:NODE  set of the topics in whose rows the node is
    nodes        set of the nodes that have ever announced and were not cleaned up
    changes      channel: topics whose row has other nodes now, joined by line breaks

The lease is the node's, so renewing it costs the same however many topics it has. A node without
``node:NODE`` is dead, and its rows are taken out by whoever comes upon them.
"""

_PREAMBLE = """
local prefix, node = ARGV[1], ARGV[2]
local node_key, topics_key = prefix .. 'node:' .. node, prefix .. 'topics:' .. node
local changed = {}
local function take_out(topic)
  redis.call('HDEL', prefix .. 'row:' .. topic, node)
  redis.call('SREM', topics_key, topic)
  changed[#changed + 1] = topic
end
local function take_out_all()
  for _, topic in ipairs(redis.call('SMEMBERS', topics_key)) do take_out(topic) end
  redis.call('DEL', node_key)
  redis.call('SREM', prefix .. 'nodes', node)
end
local function tell()
  if #changed > 0 then
    redis.call('PUBLISH', prefix .. 'changes', table.concat(changed, '\\n'))
  end
end
"""

APPLY = (
    _PREAMBLE
    + """
local url, incarnation, sequence = ARGV[3], ARGV[4], tonumber(ARGV[5])
local after, lease_milliseconds, full = tonumber(ARGV[6]), ARGV[7], ARGV[8] == '1'
local is_sequel, counts = ARGV[9] == '1', cjson.decode(ARGV[10])
local held = redis.call('HMGET', node_key, 'incarnation', 'url', 'sequence', 'known')
if held[1] ~= incarnation or held[2] ~= url then
  if held[1] and is_sequel then return 0 end
  take_out_all()
  held = {incarnation, url, '0', '0'}
end
if tonumber(held[3]) < after then
  held[4] = '0'
end
if sequence > 0 and sequence <= tonumber(held[3]) then
  redis.call('HSET', node_key, 'known', held[4])
  return tonumber(held[4])
end
if full then
  for _, topic in ipairs(redis.call('SMEMBERS', topics_key)) do
    if not counts[topic] then counts[topic] = 0 end
  end
end
local gained = 0
for topic, count in pairs(counts) do
  local row_key = prefix .. 'row:' .. topic
  local before = tonumber(redis.call('HGET', row_key, node) or 0)
  gained = gained + count - before
  if count > 0 then
    redis.call('HSET', row_key, node, count)
    if before == 0 then
      redis.call('SADD', topics_key, topic)
      changed[#changed + 1] = topic
    end
  elseif before > 0 then
    take_out(topic)
  end
end
local known = full and '1' or held[4]
redis.call('HSET', node_key, 'url', url, 'incarnation', incarnation, 'known', known,
  'sequence', sequence > 0 and sequence or held[3])
redis.call('HINCRBY', node_key, 'viewers', gained)
redis.call('PEXPIRE', node_key, lease_milliseconds)
redis.call('SADD', prefix .. 'nodes', node)
tell()
return tonumber(known)
"""
)
"""Arguments: prefix, node, url, incarnation, sequence, after, lease in ms, full, whether it is a
sequel, counts as JSON.

Returns whether the incarnation is known in full.
"""

FORGET = (
    _PREAMBLE
    + """
local incarnation = redis.call('HGET', node_key, 'incarnation')
if not incarnation or incarnation == ARGV[3] then
  take_out_all()
  tell()
end
return 1
"""
)
"""Arguments: prefix, node, incarnation. Takes a node out; a dead one whatever the incarnation."""

ROW = """
local prefix, row = ARGV[1], redis.call('HGETALL', ARGV[1] .. 'row:' .. ARGV[2])
local names, viewers = {}, {}
for i = 1, #row, 2 do
  names[#names + 1] = row[i]
  viewers[row[i]] = row[i + 1]
end
for i = 3, #ARGV do
  if not viewers[ARGV[i]] then names[#names + 1] = ARGV[i] end
end
local answer = {}
for i, name in ipairs(names) do
  local node_key = prefix .. 'node:' .. name
  local node = redis.call('HMGET', node_key, 'url', 'incarnation', 'known')
  answer[i] = {name, viewers[name] or '0', node[1] or '', node[2] or '', node[3] or '0',
    redis.call('PTTL', node_key)}
end
return answer
"""
"""Arguments: prefix, topic, further nodes.

Returns for each node in the row, and each further one: name, viewers, url, incarnation, known,
milliseconds of its lease. A dead one has an empty url.
"""

NODES = """
local prefix, answer = ARGV[1], {}
for i, name in ipairs(redis.call('SMEMBERS', prefix .. 'nodes')) do
  local node_key = prefix .. 'node:' .. name
  local node = redis.call('HMGET', node_key, 'url', 'incarnation', 'viewers')
  answer[i] = {name, node[3] or '0', node[1] or '', node[2] or '',
    redis.call('SCARD', prefix .. 'topics:' .. name), redis.call('PTTL', node_key)}
end
return answer
"""
"""Arguments: prefix.

Returns for each node: name, viewers, url, incarnation, topics, milliseconds of its lease. A dead
one has an empty url.
"""
