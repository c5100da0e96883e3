-- The first part of every script that changes the routing table.
--
-- Keys of the routing table; each begins with the prefix:
--
--   row:TOPIC         hash: node -> viewers
--   node:NODE         hash: url, incarnation, sequence, known, viewers, parts, staged_viewers;
--                     expires with the node's lease
--   topics:NODE       set of the topics whose rows contain the node
--   staged:NODE       set of the topics in a full announcement of which not all parts have come
--   gone:NODE:NUMBER  set of topics whose rows may contain the node although it has left them
--   gone              set of NODE:NUMBER, for each such set
--   nodes             set of the nodes that have announced themselves and were not removed
--   table             hash: born, when the table was begun, in milliseconds by the clock of Redis;
--                     lost, set if a frontend had announced itself before that
--   changes           channel: a token, then topics whose row has gained or lost a node or another
--                     incarnation of it, joined by line breaks
--
-- A node has one lease for all its topics, so that the cost of a renewal does not grow with their
-- number. A node without `node:NODE` is dead. A dispatcher that finds a dead node in a row removes
-- the node.
--
-- No script handles more than about a thousand topics, since Redis does nothing else meanwhile. A
-- node that leaves very many rows leaves them bit by bit. No table of a script has topics as its
-- keys, because keys that somebody has chosen can make such a table slow.
--
-- ARGV[1]  prefix

local prefix = ARGV[1]
local slice = 1000

-- The topics to publish on the channel `changes`.
local changed = {}

local function key_of(kind, name)
  return prefix .. kind .. ':' .. name
end

-- Takes a node out of the rows of some topics that it has left.
--
-- Returns whether the set is empty now.
local function take_out(node, number)
  local topics = redis.call('SPOP', key_of('gone', node .. ':' .. number), slice)
  for _, topic in ipairs(topics) do
    local is_back = redis.call('SISMEMBER', key_of('topics', node), topic) == 1
      or redis.call('SISMEMBER', key_of('staged', node), topic) == 1
    if not is_back and redis.call('HDEL', key_of('row', topic), node) == 1 then
      changed[#changed + 1] = topic
    end
  end
  if #topics == slice then
    return false
  end
  redis.call('SREM', prefix .. 'gone', node .. ':' .. number)
  return true
end

-- Lets a node leave the topics in the set at `topics_key`: some now, the others later.
local function leave(node, topics_key)
  if redis.call('EXISTS', topics_key) == 1 then
    local number = redis.call('INCR', prefix .. 'gone_number')
    redis.call('RENAME', topics_key, key_of('gone', node .. ':' .. number))
    redis.call('SADD', prefix .. 'gone', node .. ':' .. number)
    take_out(node, number)
  end
end

local function remove_node(node)
  leave(node, key_of('topics', node))
  leave(node, key_of('staged', node))
  redis.call('DEL', key_of('node', node))
  redis.call('SREM', prefix .. 'nodes', node)
end

-- Publishes the changes; returns how many connections hear of them.
local function publish_changes(token)
  if #changed == 0 then
    return 0
  end
  return redis.call('PUBLISH', prefix .. 'changes', token .. '\n' .. table.concat(changed, '\n'))
end
